"""What a user asks for: one module a stage, files in, files out."""

__all__: list[str] = []
