"""Places with names, statistics over them, and the file formats."""

__all__: list[str] = []
