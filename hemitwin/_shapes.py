"""Recurring array shapes, named once."""

import numpy as np
from jaxtyping import Bool, Float
from torch import Tensor

Volume = Float[Tensor, " channels *spatial"]
"""One image with its channels; spatial axes in RAS+ order unless a flag says mirrored."""

Batch = Float[Tensor, " batch channels *spatial"]
"""Several images of one shape."""

Embedding = Float[Tensor, " batch dim"]
"""One vector per image."""

Grid = Float[np.ndarray, " x y z"]
"""Voxel values on a 3D grid."""

Mask = Bool[np.ndarray, " x y z"]
"""True inside."""

Affine = Float[np.ndarray, "4 4"]
"""Voxel index to RAS+ millimetres, or RAS+ millimetres to RAS+ millimetres (named `to_from`)."""
