"""Files and scenes for Connectome Workbench and other viewers."""

__all__: list[str] = []
