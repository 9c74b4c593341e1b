"""Slice: 2D pictures of prepared volumes that keep subject, group and fold."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from hemitwin._atomic import atomic_path
from hemitwin._names import Plane
from hemitwin._shapes import Affine, Grid
from hemitwin.pipeline.cohort.brains import find_prepared
from hemitwin.pipeline.cohort.families import groups_of
from hemitwin.pipeline.cohort.leakage import refuse_copies, refuse_relatives, require_unseen
from hemitwin.pipeline.cohort.split import Split, draw_split, read_split
from hemitwin.pipeline.images.config import Part, SliceConfig
from hemitwin.pipeline.images.slice_folder import SliceFolder, SliceRow
from hemitwin.pipeline.stage.bids import Case
from hemitwin.pipeline.stage.dataset import provenance
from hemitwin.pipeline.stage.errors import UserError
from hemitwin.pipeline.stage.json_files import read_json
from hemitwin.pipeline.stage.runner import Outcome, run_cases
from hemitwin.transforms import load_volume, slice_positions, slice_volume

__all__ = ["SliceConfig", "slice_dataset"]

_WHITE = 1.2
_DARKEST = 2 * _WHITE / 255  # still seen half-way between a voxel of it and one of 0


@dataclass(frozen=True)
class _Slice:
    """One picture: its row in the table, its pixels, and what it shares with its mirror."""

    row: dict[str, object]
    pixels: np.ndarray
    pair: str | None = None


@dataclass(frozen=True)
class _Asked:
    """What a call asks for, of whom, and who else is prepared."""

    everybody: Sequence[Case]
    cases: Sequence[Case]
    config: SliceConfig
    splits: Path | None
    participants: Path | None


def slice_dataset(
    prepared: Path,
    out: Path,
    *,
    config: SliceConfig | None = None,
    labels: tuple[str, ...] | None = None,
    splits: Path | None = None,
    participants: Path | None = None,
) -> Outcome[pd.DataFrame]:
    """Write PNG slices, with a table in each fold; the folds are drawn over groups of subjects.

    The folder belongs to one split, over everybody who is prepared, and to one set of settings:
    it can be filled by several calls, one after another, and another split, seed, step or plane
    is refused. Who is prepared later has no fold in it.

    The positions are fixed in template millimetres, the same for everybody; one is written for a
    subject where its brain is cut. Two pictures that are each other's mirror, the halves of an
    axial or coronal slice and the sagittal slices at x and -x, have one name in the tables' column
    ``pair``. A pair is written whole or not at all. Right halves are shown as if they were left
    ones, so that they lie on their partner pixel for pixel: axial and coronal ones are turned over
    for it; a sagittal slice is, mirrored in x, as it was.

    A table names no two subjects as relatives: its column ``group`` is each subject's own
    number. Where a table of families was given, the true groups are written beside `out`, as
    ``<out>.families.private.json`` (mode 0600): keep it, and do not share it.

    Parameters
    ----------
    prepared : Path
        Folder of prepared volumes.
    out : Path
        Gets ``<fold>/<subject>/*.png`` with a record of each case beside them, and
        ``<fold>/metadata.csv``, whose names begin there: Hugging Face's ``imagefolder`` reads the
        folder as it is. Of halves a row is a pair, ``left_file_name`` and ``right_file_name``.
        Beside the folds stand `splits.json`, `slices.json` and a card, `README.md`.
    config : SliceConfig, optional
        Which slices.
    labels : tuple of str, optional
        Whose slices are written; everybody's by default. Folds and other subjects' rows do not
        depend on it.
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
        The pictures of each case that was asked for.

    Raises
    ------
    UserError
        There is no prepared volume, there are too few groups for the folds, `out` belongs to
        another split or to other settings, a subject has no fold in it, relatives lie in two folds
        of `splits`, or one volume has two names in different folds.
    """
    config = config or SliceConfig()
    everybody = find_prepared(prepared, modality=config.modality)
    cases = everybody
    if labels is not None:
        cases = find_prepared(prepared, labels=labels, modality=config.modality)
    asked = _Asked(everybody, cases, config, splits, participants)
    folder = SliceFolder(out)
    folder.require(config.settings)
    split = _split_of(folder, asked)
    groups = _check_leaks(folder, asked, split)
    folder.begin({**config.model_dump(mode="json"), **config.settings}, split, groups)
    folder.drop_changed(everybody, asked=[case.name for case in cases])
    work = partial(_slice_case, folder=folder, config=config, split=split)
    outcome = run_cases(work, cases, stage="slice", out=out)
    table = folder.write_tables(split, pairs=config.part == "hemisphere")
    folder.write_card(table, _card(prepared, config))
    return outcome


def _split_of(folder: SliceFolder, asked: _Asked) -> Split:
    """Draw or read the split that is asked for; it must be the folder's own if that has one."""
    there = folder.split
    if asked.splits is not None:
        split = read_split(asked.splits)
    else:
        # Drawn again over those for whom it was drawn: who came later must not move anybody.
        subjects = {case.subject for case in asked.everybody} if there is None else there.folds
        seed, participants = asked.config.seed, asked.participants
        split = draw_split(
            sorted(subjects), asked.config.split, participants=participants, seed=seed
        )
    if there is not None and there.hash != split.hash:
        msg = (
            f"a folder of slices must have one split, but {folder.path} has another one than is "
            f"asked for; give the --seed, --splits and --participants that it was begun with, or "
            f"choose another folder"
        )
        raise UserError(msg)
    later = sorted({case.subject for case in asked.cases} - set(split.folds))
    if later and there is not None:
        msg = (
            f"everybody in {folder.path} must have had a fold when it was begun, but "
            f"{', '.join(later[:8])} has none; leave it out with --participant-label, or slice "
            f"all into another folder"
        )
        raise UserError(msg)
    split.require_known(later)
    return split


def _check_leaks(folder: SliceFolder, asked: _Asked, split: Split) -> Mapping[str, str]:
    """Refuse relatives and copies across folds, also of earlier calls; return the groups."""
    members = set(folder.members()) | {case.name for case in asked.cases}
    together = [case for case in asked.everybody if case.name in members]
    known = sorted({case.subject for case in asked.everybody} & set(split.folds))
    groups = groups_of(known, asked.participants, asked.config.split.families)
    if asked.splits is not None:
        refuse_relatives(sorted({case.subject for case in together}), split, groups)
        unseen = [case for case in asked.cases if split.folds[case.subject] == "test"]
        require_unseen(asked.splits.parent, split, unseen)
    refuse_copies(together, split)
    return groups


def _card(prepared: Path, config: SliceConfig) -> str:
    """Say what the pictures are, and of which dataset."""
    path = prepared / "dataset_description.json"
    described = read_json(path) if path.is_file() else {}
    sources = described.get("SourceDatasets") or [{}]
    source = sources[0].get("URL", "not stated")
    licence = described.get("License", "not stated: that of the scans holds")
    what = "halves of slices, the right one mirrored" if config.part == "hemisphere" else "slices"
    row = "pair of pictures" if config.part == "hemisphere" else "picture"
    return f"""# Brain {what}

{", ".join(config.planes)} {what} of {config.modality} scans, every {config.step_mm:g} mm at fixed
positions of MNI152NLin2009aSym, 8 bit, one scale of grey for all. Left is on the left.

- Scans: {source}
- Licence: {licence}
- Made by: HemiTwin {provenance()["packages"]["hemitwin"]}, `hemitwin slice`
- Folds are drawn over groups of relatives: no subject, and no two relatives that the tables know
  of, lie in two of them (`splits.json`).
- `metadata.csv` of each fold has a row a {row}: subject, case, plane and position in mm."""


def _slice_case(
    case: Case, folder: SliceFolder, config: SliceConfig, split: Split
) -> pd.DataFrame:
    fold = split.folds[case.subject]
    record = folder.record_of(case, fold, config.settings)
    if (done := folder.read_rows(case, fold, record)) is not None:
        return pd.DataFrame(done)
    scan = load_volume(case.scan)
    rows: list[SliceRow] = []
    for one in _slices(scan.data, scan.affine, config):
        side = one.row["hemisphere"]
        entity = f"_hemi-{side}" if side else ""
        name = f"{case.name}_{one.row['plane']}{one.row['position_mm']:+07.2f}mm{entity}.png"
        path = folder.path / fold / case.subject / name
        with atomic_path(path) as temporary:
            Image.fromarray(one.pixels).save(temporary)
        place = {"file_name": f"{case.subject}/{name}", "subject": case.subject}
        pair = f"{case.name}_{one.pair}" if one.pair else None
        rows.append({**place, "split": fold, "case": case.name, **one.row, "pair": pair})
    folder.write_rows(case, fold, rows, record)
    return pd.DataFrame(rows)


def _slices(data: Grid, affine: Affine, config: SliceConfig) -> list[_Slice]:
    return [
        part
        for plane in config.planes
        for position in slice_positions(data > _DARKEST, affine, plane, config.step_mm)
        for part in _parts(data, affine, plane, position, config.part)
    ]


def _parts(
    data: Grid, affine: Affine, plane: Plane, position_mm: float, part: Part
) -> Sequence[_Slice]:
    picture = _to_bytes(slice_volume(data, affine, plane, position_mm))
    row: dict[str, object] = {"plane": plane, "position_mm": position_mm}
    whole = {**row, "hemisphere": None, "mirrored": False}
    if plane == "sagittal":
        pair = f"sagittal{abs(position_mm):06.2f}mm"
        right = position_mm > 0
        half = {**row, "hemisphere": "R" if right else "L", "mirrored": right}
        return [_Slice(whole if part == "whole" else half, picture, pair)]
    if part == "whole":
        return [_Slice(whole, picture)]
    columns = picture.shape[1] // 2
    left, right_half = picture[:, :columns], np.ascontiguousarray(picture[:, ::-1][:, :columns])
    if not (left.any() and right_half.any()):
        return []  # the brain's lowest or foremost slice, which cuts one half alone
    pair = f"{plane}{position_mm:+07.2f}mm"
    return [
        _Slice({**row, "hemisphere": "L", "mirrored": False}, left, pair),
        _Slice({**row, "hemisphere": "R", "mirrored": True}, right_half, pair),
    ]


def _to_bytes(values: np.ndarray) -> np.ndarray:
    # Prepared values lie in 0..1 up to a soft tail: one scale for all slices of all subjects.
    return np.clip(np.rint(values / _WHITE * 255), 0, 255).astype(np.uint8)
