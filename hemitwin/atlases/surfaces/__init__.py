"""The cortex as meshes: loaded, moved from space to space, and read through its thickness."""

__all__: list[str] = []
