"""Networks learn: settings, run folders, pairs, the task, and the course of a training."""

__all__: list[str] = []
