"""Figures of runs on people they never saw, and of runs against each other."""

__all__: list[str] = []
