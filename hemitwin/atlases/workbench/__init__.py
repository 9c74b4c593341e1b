"""What Connectome Workbench shows of the files: colours, scenes and specs."""

__all__: list[str] = []
