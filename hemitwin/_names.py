"""Names that the command line must know, and for which it must not wait for torch."""

from typing import Literal

__all__ = ["HCPMMP", "TEMPLATE_SPACE", "Method", "Plane", "Shape"]

TEMPLATE_SPACE = "MNI152NLin2009aSym"
"""The space of nilearn's bundled template (ICBM 2009a nonlinear symmetric)."""

HCPMMP = "HCPMMP1"
"""The name of the HCP-MMP 1.0 atlas in files."""

Method = Literal[
    "lrp", "input_x_gradient", "integrated_gradients", "grad_cam", "occlusion", "ablation"
]
"""How a score is shared out over the voxels."""

Plane = Literal["axial", "coronal", "sagittal"]
"""The orientation of a slice."""

Shape = Literal["circle", "square", "textured"]
"""What is drawn into one half of a slice."""
