"""Prepared brains, who is related to whom, folds that share nobody, and pairs."""

__all__: list[str] = []
