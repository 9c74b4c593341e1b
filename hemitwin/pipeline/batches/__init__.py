"""Batch files for Slurm."""

__all__: list[str] = []
