"""The command line: arguments in, one stage called, a short table out."""

__all__: list[str] = []
