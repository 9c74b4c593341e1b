"""What every stage stands on: cases, names, files, records, and the loop over cases."""

__all__: list[str] = []
