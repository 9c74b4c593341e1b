"""What happens to one volume."""

__all__: list[str] = []
