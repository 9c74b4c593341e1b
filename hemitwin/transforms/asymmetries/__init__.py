"""What differs between the sides without a lesion, and how it is put into a brain."""

__all__: list[str] = []
