"""HemiTwin: where does this half of a brain differ from its mirror image, and which areas say so?"""

from importlib.metadata import version

__all__ = ["__version__"]

__version__ = version("hemitwin")
