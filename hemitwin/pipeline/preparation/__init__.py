"""Scans of any source become volumes on one grid, with the way back."""

__all__: list[str] = []
