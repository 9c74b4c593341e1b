"""Labelled images and halves of slices, read for training, in folds that share nobody."""

__all__: list[str] = []
