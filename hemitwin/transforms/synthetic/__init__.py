"""Synthetic people: their anatomy, what they share with relatives, and their scan."""

__all__: list[str] = []
