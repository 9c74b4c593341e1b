"""The relevance engine: a forward pass rewritten so that input x gradient is the relevance."""

__all__: list[str] = []
