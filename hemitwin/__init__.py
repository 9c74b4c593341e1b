"""Compare a brain with its mirror image or its twin, and name the cortical areas that differ."""

from importlib.metadata import version

__all__ = ["__version__"]

__version__ = version("hemitwin")
