"""Figures that tell a bad scan from a good one, their limits, and the table of a cohort.

A scan beyond a limit is flagged and kept: what to do with it is for a person to decide.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy import ndimage

from hemitwin._shapes import Affine, Grid, Mask
from hemitwin.atlases import TemplateImage, save_table
from hemitwin.pipeline.stage.bids import visible
from hemitwin.pipeline.stage.errors import UserError, reading
from hemitwin.pipeline.stage.json_files import read_json
from hemitwin.transforms import (
    Scan,
    dark_layer,
    guessed_side,
    mirror_asymmetry,
    resample,
    similarity_quality,
    voxel_sizes,
)

__all__ = [
    "GATES",
    "QUALITY_TABLE",
    "Gate",
    "flagged_cases",
    "flags_of",
    "quality_figures",
    "quality_table",
    "write_quality_table",
]

logger = logging.getLogger(__name__)

QUALITY_TABLE = "desc-prepared_quality.tsv"
"""The cohort's table, in the derivatives' folder."""

_NAMED = ["case", "space", "modality"]
_OUTLIER_SDS = 5.0
_MAD_TO_SD = 1.4826  # of a normal distribution
_LARGEST_Z = 6.0
_LEAST_COHORT = 8
_FAR_MM = 8.0

_EXTREMES = {
    "brain_coverage": "lowest",
    "template_coverage": "lowest",
    "template_overlap": "lowest",
    "template_similarity": "lowest",
    "mirror_similarity": "lowest",
    "outline_similarity": "lowest",
    "intensity_outlier_share": "highest",
}


@dataclass(frozen=True)
class Gate:
    """The range that a figure must lie in.

    Parameters
    ----------
    low, high : float
        Limits, both allowed.
    least_spread : float
        The cohort's robust standard deviation counts as at least this.
    in_cohort : bool
        Flag a scan, too, that lies 6 or more robust standard deviations from the cohort's median
        on the limit's side. Not for mirror similarity: that would flag the lesions looked for.
    any_contrast : bool
        Holds for T2w and FLAIR, too.
    """

    low: float = -np.inf
    high: float = np.inf
    least_spread: float = 0.01
    in_cohort: bool = True
    any_contrast: bool = True


GATES: Mapping[str, Gate] = {
    "brain_coverage": Gate(low=0.95, least_spread=0.006),
    "template_coverage": Gate(low=0.9),
    "template_overlap": Gate(low=0.86),
    "beyond_template": Gate(high=0.08),
    "dark_layer": Gate(high=0.1, least_spread=0.05),
    "template_similarity": Gate(low=0.3, least_spread=0.02, any_contrast=False),
    "mirror_similarity": Gate(low=0.5, least_spread=0.02, in_cohort=False),
    "outline_similarity": Gate(low=0.9),
    "intensity_outlier_share": Gate(high=0.003, least_spread=0.0005, any_contrast=False),
    "intensity_peak_ratio": Gate(high=4.0, least_spread=0.2, any_contrast=False),
    "intensity_spread": Gate(low=0.05, least_spread=0.05),
    "native_brain_ml": Gate(low=600.0, high=2300.0, least_spread=50.0),
}
"""Each figure with its limits; chosen outside of what 170 adults' brains show, two scanners'."""


def quality_figures(
    scan: Scan,
    data: Grid,
    mask: Mask,
    native_from_template: Affine,
    template: TemplateImage,
    native_brain_mm3: float,
) -> dict[str, float]:
    """Measure a prepared volume against its scan, the template and its own mirror image.

    Parameters
    ----------
    scan : Scan
        The native brain, measured from its darkest voxels; 0 outside.
    data : (x, y, z) float
        The prepared volume on the template's grid, background 0.
    mask : (x, y, z) bool
        Its brain.
    native_from_template : (4, 4)
        Template RAS+ millimetres to native RAS+ millimetres.
    template : TemplateImage
        On the same grid.
    native_brain_mm3 : float
        The brain's volume on the scan's own grid.

    Returns
    -------
    dict of str to float
        `brain_coverage`: share of the brain that lies on the grid. `template_coverage`: share of
        the template's brain that the scan's fills. `template_overlap`: Dice coefficient of the two
        brains. `beyond_template`: share of the brain more than 8 mm outside of the template's.
        `dark_layer`: see the function of that name. `template_similarity`, `mirror_similarity`:
        correlation with the template and with the mirror image over brain and template together.
        `mirror_asymmetry`: see the function of that name. `outline_similarity`: share of the brain
        whose mirror image is brain, too. The rest is of the scan's own brightness in the brain,
        read without interpolation: `intensity_outlier_share`, of voxels more than 5 robust
        standard deviations (half the width from the 16th to the 84th percentile) above the median
        (below it lie fluid and dark lesions);
        `intensity_peak_ratio`, 99.9th percentile by median; `intensity_spread`, robust standard
        deviation by median.
    """
    inside = template.data > 0
    both = mask | inside
    scale = abs(float(np.linalg.det(native_from_template[:3, :3])))
    voxel_mm3 = abs(float(np.linalg.det(template.affine[:3, :3])))
    raw = resample(scan, template.data.shape, template.affine, native_from_template, order=0)
    return {
        "native_brain_ml": native_brain_mm3 / 1000,
        "brain_coverage": float(mask.sum() * voxel_mm3 * scale / native_brain_mm3),
        "template_coverage": float((mask & inside).sum() / inside.sum()),
        "template_overlap": float(2 * (mask & inside).sum() / (mask.sum() + inside.sum())),
        "beyond_template": float((mask & _far_outside(template)).sum() / mask.sum()),
        "dark_layer": dark_layer(scan, scan.data > 0),
        "template_similarity": _correlation(data, template.data, both),
        "mirror_similarity": _correlation(data, data[::-1], both),
        "mirror_asymmetry": mirror_asymmetry(data),
        "outline_similarity": float((mask & mask[::-1]).sum() / mask.sum()),
        **_intensity_figures(raw[mask]),
    }


@cache
def _far_outside(template: TemplateImage) -> Mask:
    sizes = voxel_sizes(template.affine)
    return np.asarray(ndimage.distance_transform_edt(template.data == 0, sizes) > _FAR_MM)


def _correlation(one: Grid, other: Grid, where: Mask) -> float:
    centred = (np.where(where, values - values[where].mean(), 0) for values in (one, other))
    return similarity_quality(*centred)


def _intensity_figures(values: np.ndarray) -> dict[str, float]:
    low, median, high, peak = (float(p) for p in np.percentile(values, [16, 50, 84, 99.9]))
    deviation = max((high - low) / 2, float(np.finfo(np.float32).tiny))
    brightness = max(abs(median), float(np.finfo(np.float32).tiny))
    return {
        "intensity_outlier_share": float((values > median + _OUTLIER_SDS * deviation).mean()),
        "intensity_peak_ratio": peak / brightness,
        "intensity_spread": deviation / brightness,
    }


def flags_of(
    figures: Mapping[str, Any], *, modality: str = "T1w", notes: Sequence[str] = ()
) -> list[str]:
    """Return a reason with figure and limit for each gate that a scan does not pass.

    Parameters
    ----------
    figures : mapping
        From `quality_figures`.
    modality : str
        Some gates hold for T1w alone.
    notes : sequence of str
        On the scan's header: one that leaves open which side is left is a reason, too.

    Examples
    --------
    >>> flags_of({"brain_coverage": 0.9})
    ['brain_coverage 0.9 is below 0.95']
    >>> flags_of({"template_similarity": 0.1}, modality="T2w")
    []
    """
    guess = guessed_side(notes)
    flags = [] if guess is None else [guess]
    for name, gate in GATES.items():
        if name not in figures or not (gate.any_contrast or modality == "T1w"):
            continue
        value = float(figures[name])
        if value < gate.low:
            flags.append(f"{name} {value:.4g} is below {gate.low:g}")
        elif value > gate.high:
            flags.append(f"{name} {value:.4g} is above {gate.high:g}")
    return flags


def quality_table(derivatives: Path) -> pd.DataFrame:
    """Gather the figures of every prepared volume and compare each with the cohort.

    Parameters
    ----------
    derivatives : Path
        What `prepare` wrote.

    Returns
    -------
    DataFrame
        A row a volume: `case`, `modality`, the figures, for each a robust z (distance from the
        median by 1.4826 times the median absolute deviation, within one modality; missing where
        there are fewer than 8 scans), and `flags`, reasons parted by "; ", empty for a good scan.
    """
    return _with_spaces(derivatives).drop(columns="space")


def _with_spaces(derivatives: Path) -> pd.DataFrame:
    """Return the table with each volume's space: one scan may be prepared in several."""
    rows = [row for path in _sidecars(derivatives) if (row := _row(path)) is not None]
    table = pd.DataFrame(rows, columns=[*_NAMED, *GATES, "mirror_asymmetry", "flags"])
    for name in GATES:
        table[name] = table[name].astype(float)
        table[f"{name}_z"] = table.groupby("modality")[name].transform(
            _robust_z, GATES[name].least_spread
        )
    cohort = [_cohort_flags(row) for _, row in table.iterrows()]
    table["flags"] = [
        "; ".join([*own, *more]) for own, more in zip(table["flags"], cohort, strict=True)
    ]
    return table[[*(name for name in table.columns if name != "flags"), "flags"]]


def _sidecars(derivatives: Path) -> list[Path]:
    found = (
        path
        for where in ("sub-*/anat", "sub-*/ses-*/anat")
        for path in visible(derivatives.glob(f"{where}/*_desc-prepared_*.json"))
    )
    return sorted(found, key=lambda path: path.name)


def _row(path: Path) -> dict[str, Any] | None:
    modality = path.stem.rsplit("_", 1)[-1]
    case, _, rest = path.name.partition("_space-")
    if not path.exists():  # another process is preparing this scan anew
        return None
    try:
        with reading(path, "prepare it again") as remedy:
            content = read_json(path, remedy=remedy)
            figures = dict(content.get("Quality", {}))
            flags = flags_of(figures, modality=modality, notes=content.get("HeaderNotes", ()))
            figures |= {name: float(figures[name]) for name in GATES if name in figures}
    except UserError as error:
        logger.warning("no figures: %s", error)
        return None
    return {
        "case": case,
        "space": rest.partition("_desc-")[0],
        "modality": modality,
        **figures,
        "flags": flags,
    }


def _robust_z(values: "pd.Series[float]", least_spread: float) -> "pd.Series[float]":
    if values.count() < _LEAST_COHORT:
        return values * np.nan
    distance = values - values.median()
    return distance / max(_MAD_TO_SD * float(distance.abs().median()), least_spread)


def _cohort_flags(row: "pd.Series[Any]") -> list[str]:
    flags = []
    for name, gate in GATES.items():
        z = float(row[f"{name}_z"])
        too_low = np.isfinite(gate.low) and z <= -_LARGEST_Z
        too_high = np.isfinite(gate.high) and z >= _LARGEST_Z
        if gate.in_cohort and (too_low or too_high):
            side = "below" if too_low else "above"
            flags.append(
                f"{name} {row[name]:.4g} is {abs(z):.1f} robust SD {side} the cohort's median"
            )
    return flags


def flagged_cases(
    derivatives: Path,
    cases: Sequence[str] | None = None,
    *,
    modality: str | None = None,
    space: str | None = None,
) -> dict[str, tuple[str, ...]]:
    """Return the flagged scans below a derivatives' folder, with their reasons.

    Parameters
    ----------
    derivatives : Path
        What `prepare` wrote.
    cases : sequence of str, optional
        Only these; all by default.
    modality, space : str, optional
        Only volumes of this modality, in this space: a subject's scans share their names.

    Returns
    -------
    dict of str to tuple of str
        Empty where every scan passed.
    """
    table = _with_spaces(derivatives)
    for column, wanted in (("modality", modality), ("space", space)):
        table = table if wanted is None else table[table[column] == wanted]
    flagged: dict[str, tuple[str, ...]] = {}
    for case, flags in _flagged_rows(table):
        if cases is None or case in cases:
            flagged[case] = (*flagged.get(case, ()), *flags.split("; "))
    return flagged


def _flagged_rows(table: pd.DataFrame) -> list[tuple[str, str]]:
    pairs = zip(table["case"], table["flags"], strict=True)
    return [(str(case), str(flags)) for case, flags in pairs if flags]


def write_quality_table(derivatives: Path) -> Path | None:
    """Write the cohort's table, name its flagged scans and tell its extremes.

    Parameters
    ----------
    derivatives : Path
        What `prepare` wrote; every sidecar that is there counts, not this run's alone.

    Returns
    -------
    Path or None
        The table; `None` where nothing is prepared yet.
    """
    table = quality_table(derivatives)
    if table.empty:
        return None
    path = derivatives / QUALITY_TABLE
    save_table(path, table)
    for name, side in _EXTREMES.items():
        if table[name].notna().any():
            row = table.sort_values(name, ascending=side == "lowest").iloc[0]
            logger.info("quality: %s %s: %.4g, %s", side, name, row[name], row["case"])
    for case, flags in _flagged_rows(table):
        logger.warning("quality: %s is flagged: %s", case, flags)
    return path
