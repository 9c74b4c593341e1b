"""Tabulate: any maps become one table, a row a map and region."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from hemitwin.atlases import (
    HCPMMP,
    TEMPLATE_SPACE,
    Atlas,
    Parcellation,
    dense_by_region,
    hcpmmp_atlas,
    load_dense_scalars,
    load_labels,
    load_volumes,
    read_dseg_table,
    relevance_by_region,
    save_table,
    template_from_fslr,
)
from hemitwin.pipeline.bids import sidecar_of
from hemitwin.pipeline.errors import UserError
from hemitwin.pipeline.outputs import digest_file, provenance, write_json

__all__ = ["tabulate"]

_SPACES = (TEMPLATE_SPACE, "MNI152NLin6Asym")
_DENSE = ".dscalar.nii"


def tabulate(
    maps: Sequence[Path],
    out: Path,
    *,
    atlas: Atlas | None = None,
    dseg: Path | None = None,
    dseg_table: Path | None = None,
    space: str = TEMPLATE_SPACE,
) -> pd.DataFrame:
    """Write what each map has in each region.

    Parameters
    ----------
    maps : sequence of Path
        NIfTI volumes (4D: several maps), or ``.dscalar.nii`` on the 91k grayordinates.
    out : Path
        The table, ``.tsv``; a sidecar lies beside it.
    atlas : Atlas, optional
        The regions of template space; HCP-MMP 1.0 by default, which is the only one for
        grayordinates.
    dseg : Path, optional
        A label volume in the maps' own space in place of an atlas: a subject's own regions.
    dseg_table : Path, optional
        Its names; by default those of the HCP-MMP if it is called so, else the ``.tsv`` beside it.
    space : str
        The volumes' space: MNI152NLin2009aSym or MNI152NLin6Asym. Not heeded with `dseg`.

    Returns
    -------
    DataFrame
        ``map`` (file, and number of the volume where there are several), then as
        `relevance_by_region` or `dense_by_region` gives it.

    Raises
    ------
    UserError
        A file is missing or cannot be read, or the space is none of these.
    """
    if dseg is None and space not in _SPACES:
        msg = (
            f"the maps' space must be {' or '.join(_SPACES)}, got {space}; resample them, or give "
            f"a label volume of their own space with --dseg"
        )
        raise UserError(msg)
    if missing := [str(path) for path in (*maps, dseg) if path and not path.is_file()]:
        msg = f"all files must be there, missing: {', '.join(missing)}; check the paths"
        raise UserError(msg)
    try:
        regions = atlas or hcpmmp_atlas()
        own = None if dseg is None else _own(dseg, dseg_table)
        table = pd.concat(
            [one for path in maps for one in _tables(path, regions, own, space)],
            ignore_index=True,
        )
    except ValueError as error:
        raise UserError(str(error)) from error
    save_table(out, table)
    content = {
        "Description": "Maps by region: one row a map and region",
        "Atlas": dseg.name if dseg else regions.name,
        "Space": "of the label volume" if dseg else space,
        "Sources": [path.name for path in maps],
        "SourcesSHA256": [digest_file(path) for path in maps],
        "GeneratedBy": provenance(),
    }
    write_json(out.with_suffix(".json"), content)
    return table


def _tables(
    path: Path, atlas: Atlas, own: Parcellation | None, space: str
) -> Iterator[pd.DataFrame]:
    if path.name.endswith(_DENSE):
        if own is not None or atlas.name != HCPMMP:
            msg = f"{path.name} must be tabulated by HCP-MMP; use wb_command -cifti-parcellate"
            raise ValueError(msg)
        found = [dense_by_region(one) for one in load_dense_scalars(path)]
    else:
        volumes, affine = load_volumes(path)
        parcels = own or _on_grid(atlas, volumes.shape[1:], affine, space)
        tables = (relevance_by_region(one, affine, parcels) for one in volumes)
        found = [table[table["index"] >= 0] for table in tables]
    for number, table in enumerate(found):
        name = path.name if len(found) == 1 else f"{path.name}:{number}"
        named = table.copy()
        named.insert(0, "map", name)
        yield named


def _own(dseg: Path, table: Path | None) -> Parcellation:
    labels, affine = load_labels(dseg)
    beside = sidecar_of(dseg).with_suffix(".tsv")
    if table is None and f"_atlas-{HCPMMP}_" in dseg.name and not beside.is_file():
        return Parcellation(labels, affine, hcpmmp_atlas().regions, "own")
    return Parcellation(labels, affine, read_dseg_table(table or beside), "own")


def _on_grid(atlas: Atlas, shape: tuple[int, ...], affine: np.ndarray, space: str) -> Parcellation:
    size = (shape[0], shape[1], shape[2])
    if space == TEMPLATE_SPACE:
        return atlas.volume(size, affine)
    points = np.indices(size).reshape(3, -1).T @ affine[:3, :3].T + affine[:3, 3]
    labels = atlas.label_points(template_from_fslr(points).astype(np.float64))
    return Parcellation(labels.reshape(size), affine, atlas.regions, space)
