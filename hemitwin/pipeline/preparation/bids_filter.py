"""Filter files: which of a subject's images are meant, as BIDS apps let their users say."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from hemitwin.pipeline.stage.bids import Case, Modality, entities_of
from hemitwin.pipeline.stage.errors import UserError
from hemitwin.pipeline.stage.json_files import read_json

__all__ = ["Filter", "keep_matching", "read_filter"]

Filter = Mapping[str, tuple[str, ...] | bool]
"""By entity: the values allowed, or whether there is to be one at all."""

_SHORT = {
    "subject": "sub",
    "session": "ses",
    "acquisition": "acq",
    "ceagent": "ce",
    "reconstruction": "rec",
    "inversion": "inv",
    "resolution": "res",
    "description": "desc",
}
_ENTITIES = {*_SHORT.values(), "run", "echo", "part", "mt", "chunk", "space"}
_OTHER_QUERIES = {"bold", "sbref", "fmap", "dwi", "asl", "pet", "roi"}
_VALUE = re.compile(r"[a-zA-Z0-9+]+")


def read_filter(path: Path, modality: Modality) -> Filter:
    """Read one modality's part of a filter file.

    Parameters
    ----------
    path : Path
        JSON as fMRIPrep reads it: ``{"t1w": {"session": "01", "acquisition": null}}``. A value
        or a list of values is wanted, ``null`` wants the entity absent, ``"*"`` present.
    modality : str
        The image type; queries for other types are passed over.

    Returns
    -------
    mapping
        Empty where the file says nothing of this modality.

    Raises
    ------
    UserError
        The file is missing, no such JSON, or asks for something unknown or contradictory.
    """
    if not path.is_file():
        msg = f"a filter file must be JSON, got {path}, which is not there; check the path"
        raise UserError(msg)
    try:
        queries = read_json(path)
    except ValueError as error:
        raise UserError(str(error)) from error
    known = {"t1w", "t2w", "flair"} | _OTHER_QUERIES
    unknown = sorted(set(queries) - known)
    query = queries.get(modality.lower(), {})
    if unknown or not isinstance(query, dict):
        msg = (
            f"{path} must hold queries named {', '.join(sorted(known))}, each with entities, got "
            f"{', '.join(unknown) or repr(query)}; correct it"
        )
        raise UserError(msg)
    wanted = dict(query)
    for key, right in (("datatype", "anat"), ("suffix", modality)):
        if wanted.pop(key, right) != right:
            msg = f"{path}: {key} must be {right} here, got {query[key]!r}; see --modality"
            raise UserError(msg)
    return dict(_one(path, key, value) for key, value in wanted.items())


def keep_matching(cases: Sequence[Case], wanted: Filter) -> tuple[Case, ...]:
    """Keep the cases whose scans' names have the entities that are wanted.

    Examples
    --------
    >>> names = [f"sub-01_run-{run}" for run in "12"]
    >>> cases = [Case("sub-01", name, Path(f"{name}_T1w.nii")) for name in names]
    >>> [case.name for case in keep_matching(cases, {"run": ("01",)})]
    ['sub-01_run-1']
    """
    return tuple(
        case for case in cases if _matches(entities_of(case.scan.name.rsplit("_", 1)[0]), wanted)
    )


def _matches(entities: Mapping[str, str], wanted: Filter) -> bool:
    for key, values in wanted.items():
        value = entities.get(key)
        if isinstance(values, bool):
            if (value is not None) != values:
                return False
        elif value is None or _plain(value) not in {_plain(one) for one in values}:
            return False
    return True


def _plain(value: str) -> str:
    """Run 01 is run 1."""
    return value.lstrip("0") or "0" if value.isdigit() else value


def _one(path: Path, key: str, value: object) -> tuple[str, tuple[str, ...] | bool]:
    short = _SHORT.get(key, key)
    if short not in _ENTITIES:
        known = ", ".join(sorted({*_ENTITIES, *_SHORT}))
        msg = f"{path}: entities must be among {known}, got {key!r}; correct it"
        raise UserError(msg)
    if value is None or value == "*":
        return short, value == "*"
    values = tuple(
        str(one).removeprefix(f"{short}-")
        for one in (value if isinstance(value, list) else [value])
    )
    if not values or not all(_VALUE.fullmatch(one) for one in values):
        msg = f"{path}: values of {key} must be letters and digits, got {value!r}; correct it"
        raise UserError(msg)
    return short, values
