"""Statistics of numbers alone: intervals, tests, curves, regressions and spatial nulls."""

__all__: list[str] = []
