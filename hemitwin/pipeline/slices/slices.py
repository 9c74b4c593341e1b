"""Slice: 2D pictures of prepared volumes that keep subject, group and fold."""

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pandas as pd
from PIL import Image

from hemitwin._atomic import atomic_path
from hemitwin.pipeline.cohort.brains import find_prepared
from hemitwin.pipeline.cohort.families import groups_of
from hemitwin.pipeline.cohort.leakage import refuse_copies, refuse_relatives, require_unseen
from hemitwin.pipeline.cohort.split import Split, draw_split, read_split
from hemitwin.pipeline.preparation.lesion_files import lesion_file_of
from hemitwin.pipeline.slices.card import card_of
from hemitwin.pipeline.slices.config import SliceConfig
from hemitwin.pipeline.slices.exports import require_exportable, write_exports
from hemitwin.pipeline.slices.folder import SliceFolder, SliceRow
from hemitwin.pipeline.slices.picture_size import PictureSize
from hemitwin.pipeline.slices.pictures import pictures_of
from hemitwin.pipeline.slices.source import Pixels, SliceSource, native_scan
from hemitwin.pipeline.slices.tables import columns_of, labels_of
from hemitwin.pipeline.stage.bids import Case
from hemitwin.pipeline.stage.errors import UserError
from hemitwin.pipeline.stage.runner import Outcome, run_cases

__all__ = ["SliceConfig", "slice_dataset"]

# As small as PIL's own choice for slices of brains, and written in half of the time.
_LEVEL, _STRATEGY = 1, zlib.Z_RLE


@dataclass(frozen=True)
class _Asked:
    """What a call asks for, of whom, and who else is prepared."""

    everybody: Sequence[Case]
    cases: Sequence[Case]
    config: SliceConfig
    splits: Path | None


@dataclass(frozen=True)
class _Work:
    """What every case is cut by."""

    folder: SliceFolder
    config: SliceConfig
    size: PictureSize
    split: Split

    @property
    def settings(self) -> dict[str, object]:
        """What decides which pictures there are."""
        described = self.size.described(self.config)
        return {**self.config.settings, **described}


def slice_dataset(
    prepared: Path,
    out: Path,
    *,
    config: SliceConfig | None = None,
    labels: tuple[str, ...] | None = None,
    splits: Path | None = None,
    nprocs: int = 1,
) -> Outcome[pd.DataFrame]:
    """Write PNG slices, with a table in each fold; the folds are drawn over groups of subjects.

    The folder belongs to one split, over everybody who is prepared, and to one set of settings:
    it can be filled by several calls, one after another, and another split, seed, step or plane
    is refused. Who is prepared later has no fold in it.

    The positions are fixed in template millimetres, the same for everybody; one is written for a
    subject where its brain is cut, and as `SliceConfig.positions` chooses. Pixels are square and
    all pictures of a plane have one size, with the mid-plane in the middle: they are cut or
    padded, never stretched. What is cut is the prepared volume or, with a native source, the scan
    that it was made from: sampled once through its transform, at the same positions and the same
    way up, its pixels in the subject's own millimetres and masked by the prepared brain. The
    window is the volume's own; the brain is 1 at least, and all else is 0.

    Two pictures that are each other's mirror, the halves of an axial or coronal slice and the
    sagittal slices at x and -x, have one name in the tables' column ``pair``. A pair is written
    whole or not at all. Right halves are shown as if they were left ones, so that they lie on
    their partner pixel for pixel: axial and coronal ones are turned over for it; a sagittal slice
    is, mirrored in x, as it was.

    With `SliceConfig.asymmetry_mm2` each slice has a copy for each area, in one half of which a
    shape is drawn, where it has room; side, place and grey are decided by seed, case, position
    and area. Its mask lies beside it.

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
        Beside the folds stand `splits.json`, `slices.json` and a card, `README.md`. Exports for
        other loaders go to ``<out>.exports`` (`write_exports`).
    config : SliceConfig, optional
        Which slices; its table of participants tells families, which are kept together, and
        strata and labels where they are asked for.
    labels : tuple of str, optional
        Whose slices are written; everybody's by default. Folds and other subjects' rows do not
        depend on it.
    splits : Path, optional
        A run's `splits.json`, so that slices and volumes share their folds; drawn by default.
        The run's private file of relatives and its fingerprints are heeded where they lie beside
        it.
    nprocs : int
        Subjects at a time, in threads of one process.

    Returns
    -------
    Outcome of DataFrame
        The rows of each case that was asked for.

    Raises
    ------
    UserError
        There is no prepared volume, there are too few groups for the folds, `out` belongs to
        another split or to other settings, a subject has no fold in it or no label, relatives lie
        in two folds of `splits`, or one volume has two names in different folds.
    """
    config = config or SliceConfig()
    _require_masks(config)
    everybody = find_prepared(prepared, modality=config.modality)
    cases = everybody
    if labels is not None:
        cases = find_prepared(prepared, labels=labels, modality=config.modality)
    asked = _Asked(everybody, cases, config, splits)
    folder = SliceFolder(out)
    folder.require(config.settings)
    split = _split_of(folder, asked)
    size = PictureSize.of(everybody, config)
    work = _Work(folder, config, size, split)
    folder.require(work.settings)
    require_exportable(config, size)
    groups = _check_leaks(folder, asked, split)
    _require_labels(folder, asked)
    folder.begin({**config.model_dump(mode="json"), **work.settings}, split, groups)
    folder.drop_changed(everybody, asked=[case.name for case in cases])
    outcome = run_cases(
        partial(_slice_case, work=work), cases, stage="slice", out=out, threads=nprocs
    )
    subject_labels = _labels(folder.subjects(), config)
    table = folder.write_tables(split, columns_of(config), subject_labels)
    folder.write_card(card_of(prepared, table, config, split, work.settings))
    write_exports(out, table, config.export)
    return outcome


def _require_masks(config: SliceConfig) -> None:
    masks = config.lesion_masks
    if masks is not None and not masks.is_dir():
        msg = f"the lesion masks must be in a folder, got {masks}; check the path"
        raise UserError(msg)


def _labels(subjects: Sequence[str], config: SliceConfig) -> Mapping[str, str] | None:
    if config.label_column is None or config.participants is None:
        return None
    return labels_of(subjects, config.label_column, config.participants)


def _require_labels(folder: SliceFolder, asked: _Asked) -> None:
    """Refuse subjects without a label before anything is cut."""
    _labels(sorted({*folder.subjects(), *(case.subject for case in asked.cases)}), asked.config)


def _split_of(folder: SliceFolder, asked: _Asked) -> Split:
    """Draw or read the split that is asked for; it must be the folder's own if that has one."""
    there = folder.split
    if asked.splits is not None:
        split = read_split(asked.splits)
    else:
        # Drawn again over those for whom it was drawn: who came later must not move anybody.
        subjects = {case.subject for case in asked.everybody} if there is None else there.folds
        seed, participants = asked.config.seed, asked.config.participants
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
    groups = groups_of(known, asked.config.participants, asked.config.split.families)
    if asked.splits is not None:
        refuse_relatives(sorted({case.subject for case in together}), split, groups)
        unseen = [case for case in asked.cases if split.folds[case.subject] == "test"]
        require_unseen(asked.splits.parent, split, unseen)
    refuse_copies(together, split)
    return groups


def _slice_case(case: Case, work: _Work) -> pd.DataFrame:
    fold = work.split.folds[case.subject]
    inputs = {}
    native = native_scan(case) if work.config.source == "native" else None
    if native is not None:
        inputs["scan"] = native.scan
    masks = work.config.lesion_masks
    lesion = None if masks is None else lesion_file_of(masks, case, "slice")
    if lesion is not None:
        inputs["lesion"] = lesion
    record = work.folder.record_of(case, fold, work.settings, inputs)
    if (done := work.folder.read_rows(case, fold, record)) is not None:
        return pd.DataFrame(done)
    source = SliceSource.load(case, work.size, work.config, native=native, lesion=lesion)

    def save(name: str, pixels: Pixels | None) -> str:
        file = f"{case.subject}/{case.name}_{name}.png"
        if pixels is not None:
            with atomic_path(work.folder.path / fold / file) as temporary:
                picture = Image.fromarray(pixels)
                picture.save(temporary, compress_level=_LEVEL, compress_type=_STRATEGY)
        return file

    known = {"subject": case.subject, "split": fold, "case": case.name}
    rows: list[SliceRow] = []
    for row in pictures_of(case.name, source, work.config, save):
        pair = row.get("pair")
        rows.append({**row, **known, "pair": pair and f"{case.name}_{pair}"})
    work.folder.write_rows(case, fold, rows, record)
    return pd.DataFrame(rows)
