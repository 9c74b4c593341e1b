"""What turns an image into an embedding: trunks of many kinds, pooled, and local patterns."""

__all__: list[str] = []
