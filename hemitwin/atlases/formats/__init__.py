"""How places and maps are written: NIfTI, GIFTI, CIFTI, FreeSurfer's files, and tables."""

__all__: list[str] = []
