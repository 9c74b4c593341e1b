"""What a lesion looks like, and how it is put into a brain."""

__all__: list[str] = []
