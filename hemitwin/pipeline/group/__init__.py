"""What maps of many people say together."""

__all__: list[str] = []
