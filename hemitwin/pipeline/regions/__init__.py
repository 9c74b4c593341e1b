"""Places with names: each subject's own atlas, and tables of maps over its regions."""

__all__: list[str] = []
