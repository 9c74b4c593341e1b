"""Slice: 2D pictures of prepared volumes that keep subject, group and fold."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
from PIL import Image
from pydantic import BaseModel, ConfigDict, Field

from hemitwin._atomic import atomic_path
from hemitwin._shapes import Affine, Grid
from hemitwin.pipeline.bids import Case, Modality
from hemitwin.pipeline.cohort import find_prepared
from hemitwin.pipeline.data_config import SplitConfig
from hemitwin.pipeline.families import FAMILIES, groups_of, write_families
from hemitwin.pipeline.leakage import refuse_copies, refuse_relatives, require_unseen
from hemitwin.pipeline.outputs import write_json
from hemitwin.pipeline.runner import Outcome, run_cases
from hemitwin.pipeline.split import Split, draw_split, read_split, write_split
from hemitwin.transforms import load_volume, slice_positions, slice_volume

__all__ = ["Plane", "SliceConfig", "slice_dataset"]

Plane = Literal["axial", "coronal", "sagittal"]
Part = Literal["whole", "hemisphere"]

_WHITE = 1.2


class SliceConfig(BaseModel):
    """Which slices are written."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    modality: Modality = Field(default="T1w", description="Which prepared volumes.")
    planes: tuple[Plane, ...] = Field(default=("axial",), description="Slice orientations.")
    part: Part = Field(
        default="whole",
        description="whole slices, or each hemisphere apart with the right one mirrored.",
    )
    step_mm: float = Field(default=8.0, gt=0, description="Distance between slices.")
    split: SplitConfig = Field(default=SplitConfig(), description="Folds, by subject.")
    seed: int = Field(default=0, ge=0, description="Of the folds.")


@dataclass(frozen=True)
class _Slice:
    """One picture: its row in the table and its pixels."""

    row: dict[str, object]
    pixels: np.ndarray


def slice_dataset(
    prepared: Path,
    out: Path,
    *,
    config: SliceConfig | None = None,
    labels: tuple[str, ...] | None = None,
    splits: Path | None = None,
    participants: Path | None = None,
) -> Outcome[pd.DataFrame]:
    """Write PNG slices and `metadata.csv`; the folds are drawn over groups of subjects.

    The table names no two subjects as relatives: its column ``group`` is each subject's own
    number. Where a table of families was given, the true groups are written beside `out`, as
    ``<out>.families.private.json`` (mode 0600): keep it, and do not share it.

    Parameters
    ----------
    prepared : Path
        Folder of prepared volumes.
    out : Path
        Gets ``<fold>/<subject>/*.png``, `metadata.csv`, `splits.json` and `slices.json`.
    config : SliceConfig, optional
        Which slices.
    labels : tuple of str, optional
        Subjects; all by default.
    splits : Path, optional
        A run's `splits.json`, so that slices and volumes share their folds; drawn by default.
        The run's private file of relatives and its fingerprints are heeded where they lie beside
        it.
    participants : Path, optional
        A table with family columns, to keep families together: `participants.tsv`, or the Human
        Connectome Project's restricted CSV. Strata are looked up in it, too.

    Returns
    -------
    Outcome of DataFrame
        Each case's rows of `metadata.csv`.

    Raises
    ------
    UserError
        There is no prepared volume, there are too few groups for the folds, relatives lie in two
        folds of `splits`, or one volume has two names in different folds.
    """
    config = config or SliceConfig()
    cases = find_prepared(prepared, labels=labels, modality=config.modality)
    subjects = sorted({case.subject for case in cases})
    groups = groups_of(subjects, participants, config.split.families)
    split = _folds(cases, groups, config, splits=splits, participants=participants)
    refuse_copies(cases, split)
    work = partial(_slice_case, out=out, config=config, split=split)
    outcome = run_cases(work, cases, stage="slice", log_folder=out / "logs")
    if outcome.results:
        table = pd.concat(outcome.results, ignore_index=True)
        # A number that relatives shared would name them, and the table may be shared.
        numbers = {subject: f"g{index:04d}" for index, subject in enumerate(subjects)}
        table.insert(2, "group", [numbers[name] for name in table["subject"]])
        with atomic_path(out / "metadata.csv") as temporary:
            table.to_csv(temporary, index=False)
        write_split(out / "splits.json", split)
        whole = out.resolve()  # "." has no name
        write_families(whole.with_name(f"{whole.name}.{FAMILIES}"), groups)
        write_json(out / "slices.json", config.model_dump(mode="json"))
    return outcome


def _folds(
    cases: Sequence[Case],
    groups: Mapping[str, str],
    config: SliceConfig,
    *,
    splits: Path | None,
    participants: Path | None,
) -> Split:
    subjects = sorted({case.subject for case in cases})
    if splits is None:
        return draw_split(subjects, config.split, participants=participants, seed=config.seed)
    split = read_split(splits)
    split.require_known(subjects)
    refuse_relatives(subjects, split, groups)
    unseen = [case for case in cases if split.folds[case.subject] == "test"]
    require_unseen(splits.parent, split, unseen)
    return split


def _slice_case(case: Case, out: Path, config: SliceConfig, split: Split) -> pd.DataFrame:
    scan = load_volume(case.scan)
    fold = split.folds[case.subject]
    rows = []
    for one in _slices(scan.data, scan.affine, config):
        entity = f"_hemi-{one.row['hemisphere']}" if one.row["hemisphere"] else ""
        name = f"{case.name}_{one.row['plane']}{one.row['position_mm']:+07.1f}mm{entity}.png"
        path = out / fold / case.subject / name
        with atomic_path(path) as temporary:
            Image.fromarray(one.pixels).save(temporary)
        place = {"file": path.relative_to(out).as_posix(), "subject": case.subject}
        rows.append({**place, "split": fold, "case": case.name, **one.row})
    return pd.DataFrame(rows)


def _slices(data: Grid, affine: Affine, config: SliceConfig) -> list[_Slice]:
    return [
        part
        for plane in config.planes
        for position in slice_positions(data > 0, affine, plane, config.step_mm)
        for part in _parts(data, affine, plane, float(position), config.part)
    ]


def _parts(
    data: Grid, affine: Affine, plane: Plane, position_mm: float, part: Part
) -> Sequence[_Slice]:
    picture = _to_bytes(slice_volume(data, affine, plane, position_mm))
    row: dict[str, object] = {"plane": plane, "position_mm": position_mm}
    if part == "whole":
        return [_Slice({**row, "hemisphere": None, "mirrored": False}, picture)]
    if plane == "sagittal":
        side = "L" if position_mm < 0 else "R"
        return [_Slice({**row, "hemisphere": side, "mirrored": False}, picture)]
    half = picture.shape[1] // 2
    left = _Slice({**row, "hemisphere": "L", "mirrored": False}, picture[:, :half])
    mirrored = np.ascontiguousarray(picture[:, ::-1][:, :half])
    return [left, _Slice({**row, "hemisphere": "R", "mirrored": True}, mirrored)]


def _to_bytes(values: np.ndarray) -> np.ndarray:
    # Prepared values lie in 0..1 up to a soft tail: one scale for all slices of all subjects.
    return np.clip(np.rint(values / _WHITE * 255), 0, 255).astype(np.uint8)
