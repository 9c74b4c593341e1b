"""Labels of the fsLR 32k vertices of both sides."""

from collections.abc import Mapping

import numpy as np
from jaxtyping import Int32

from hemitwin.atlases.regions import Region

__all__ = ["FSLR_VERTICES", "check_cortex_labels"]

FSLR_VERTICES = 32_492
"""Of each side."""


def check_cortex_labels(
    cortex: Mapping[str, Int32[np.ndarray, " n"]], regions: tuple[Region, ...]
) -> None:
    """Refuse labels of one side, of another mesh, or without a region; there may be none at all.

    Raises
    ------
    ValueError
        When the labels are any of these.
    """
    if cortex and set(cortex) != {"L", "R"}:
        msg = (
            f"an atlas must have labels for both sides or voxels, got cortex of "
            f"{' and '.join(sorted(cortex))}; add the other side"
        )
        raise ValueError(msg)
    known = {0, *(region.index for region in regions)}
    for side, labels in cortex.items():
        if labels.shape != (FSLR_VERTICES,):
            msg = (
                f"surface labels must be on the fsLR 32k mesh of {FSLR_VERTICES} vertices, "
                f"got {labels.shape} for {side}; resample them with wb_command -label-resample"
            )
            raise ValueError(msg)
        if unknown := sorted(set(np.unique(labels).tolist()) - known):
            msg = (
                f"every label must have a region, got {unknown[:5]} without on side {side}; "
                f"complete the table"
            )
            raise ValueError(msg)
