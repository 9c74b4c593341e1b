"""Why: relevance, its ledger and its checks."""

__all__: list[str] = []
