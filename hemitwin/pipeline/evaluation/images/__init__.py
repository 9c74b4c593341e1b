"""Labelled images: their classes, from what a network embeds, and why."""

__all__: list[str] = []
