"""Why a score is what it is: maps and matrices, their ledgers, checks and files."""

__all__: list[str] = []
