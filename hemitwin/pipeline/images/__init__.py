"""Two-dimensional pictures, in folds that share nobody."""

__all__: list[str] = []
