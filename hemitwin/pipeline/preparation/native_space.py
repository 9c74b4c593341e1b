"""The way back from a prepared volume to the scan it was made from."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hemitwin._shapes import Affine
from hemitwin.pipeline.stage.bids import Case, sidecar_of
from hemitwin.pipeline.stage.errors import CaseError, reading
from hemitwin.pipeline.stage.json_files import read_json
from hemitwin.transforms import Scan

__all__ = ["NativeSpace"]


@dataclass(frozen=True, eq=False)
class NativeSpace:
    """Where a prepared volume came from.

    Parameters
    ----------
    scan : Path
        The scan; it may have moved since.
    grid : Scan
        Its grid in RAS order, without values, and the notes on its header.
    from_template : (4, 4) float
        RAS+ mm of template space to RAS+ mm of the scan.
    """

    scan: Path
    grid: Scan
    from_template: Affine

    @classmethod
    def of(cls, case: Case, stage: str) -> "NativeSpace":
        """Read it from a prepared volume's sidecar.

        Raises
        ------
        CaseError
            The sidecar is missing.
        UserError
            It is damaged.
        """
        sidecar = sidecar_of(case.scan)
        if not sidecar.is_file():
            reason = f"{sidecar} must be there, with the transform; run 'hemitwin prepare' again"
            raise CaseError(case.name, stage, reason)
        with reading(sidecar, "run 'hemitwin prepare' again") as remedy:
            content: dict[str, Any] = read_json(sidecar, remedy=remedy)
            scan = (sidecar.parent / content["SourcePath"]).resolve()
            values = np.zeros(content["NativeShape"], dtype=np.float32)
            affine, from_template = (
                np.array(content[name], dtype=float).reshape(4, 4)
                for name in ("NativeAffine", "NativeFromTemplate")
            )
            grid = Scan(values, affine, scan, tuple(content.get("HeaderNotes", ())))
        return cls(scan, grid, from_template)
