"""The tables of a folder of slices: which columns they have, and the labels of the subjects."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from hemitwin.pipeline.slices.config import LabelsFrom, SliceConfig
from hemitwin.pipeline.stage.errors import UserError
from hemitwin.pipeline.stage.tables import read_table

__all__ = ["columns_of", "labels_of"]

_NAMED = 8
_PLACE = ("subject", "group", "split", "case", "plane", "slice", "position_mm", "pair")
_LABELS: Mapping[LabelsFrom, tuple[str, ...]] = {
    "nothing": (),
    "asymmetries": (
        "label",
        "abnormal",
        "asymmetry_mm2",
        "asymmetry_shape",
        "asymmetry_grey",
    ),
    "lesions": ("label", "abnormal", "lesion_mm2"),
    "column": ("label",),
}


def columns_of(config: SliceConfig) -> tuple[str, ...]:
    """Name the columns of a folder's tables, the files first."""
    pairs = config.part == "hemisphere"
    files = ["left_file_name", "right_file_name"] if pairs else ["file_name"]
    masks = ["mask_file_name"] if config.labels_from in {"asymmetries", "lesions"} else []
    line = [] if pairs else ["midline_px"]
    return (*files, *masks, *_PLACE, *line, *_LABELS[config.labels_from])


def labels_of(subjects: Sequence[str], column: str, participants: Path) -> Mapping[str, str]:
    """Read the subjects' labels from a table.

    Parameters
    ----------
    subjects : sequence of str
        With ``sub-``.
    column : str
        The table's column.
    participants : Path
        ``participants.tsv`` or another table of subjects.

    Raises
    ------
    UserError
        There is no such table or column, or a subject has no label or several.
    """
    table = read_table(participants)
    if column not in table.columns:
        msg = f"{participants} must have the column {column}, got {', '.join(table.columns)}"
        raise UserError(msg)
    known = table.dropna(subset=[column])
    known = known[known["subject"].isin(list(subjects))]
    found: dict[str, set[str]] = {}
    for subject, value in zip(known["subject"], known[column], strict=True):
        found.setdefault(str(subject), set()).add(str(value).strip())
    wrong = [name for name in subjects if len(found.get(name, ())) != 1]
    if wrong:
        listed = ", ".join([*wrong[:_NAMED], *(["..."] if len(wrong) > _NAMED else [])])
        msg = (
            f"each subject must have one label in the column {column} of {participants}, but "
            f"{listed} has none or several; add it, or leave the subject out"
        )
        raise UserError(msg)
    return {name: found[name].pop() for name in subjects}
