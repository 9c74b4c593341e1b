"""Slices of volumes as 2D pictures, in folds that share nobody."""

__all__: list[str] = []
