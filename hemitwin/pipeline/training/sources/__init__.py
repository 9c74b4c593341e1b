"""What training draws of each kind of data, and what validation scores."""

__all__: list[str] = []
