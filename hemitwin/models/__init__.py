"""What turns volumes into embeddings, distances and losses."""

__all__: list[str] = []
