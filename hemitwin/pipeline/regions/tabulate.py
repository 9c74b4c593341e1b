"""Tabulate: any maps become one table, a row a map and region."""

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from hemitwin._shapes import Affine
from hemitwin.atlases import (
    COLUMN_NOTES,
    HCPMMP,
    TEMPLATE_SPACE,
    Atlas,
    Parcellation,
    dense_by_region,
    dseg_table_of,
    hcpmmp_atlas,
    label_at,
    load_dense_scalars,
    read_dseg_table,
    relevance_by_region,
    save_table,
    template_from_fslr_volume,
)
from hemitwin.pipeline.stage.dataset import provenance
from hemitwin.pipeline.stage.errors import UserError
from hemitwin.pipeline.stage.json_files import digest_file, write_json
from hemitwin.pipeline.stage.sides import says_guess
from hemitwin.transforms import load_labels, load_series

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
        NIfTI volumes (4D: several maps), or ``.dscalar.nii`` on the 91k grayordinates. NaN is no
        value: it is counted nowhere, and lowers the coverage.
    out : Path
        The table, ``.tsv``; a sidecar lies beside it.
    atlas : Atlas, optional
        The regions of template space; HCP-MMP 1.0 by default, which is the only one for
        grayordinates.
    dseg : Path, optional
        A label volume in the maps' own space in place of an atlas: a subject's own regions.
    dseg_table : Path, optional
        Its names; by default the ``.tsv`` beside it, or those of the HCP-MMP if it is called so.
    space : str
        The volumes' space: MNI152NLin2009aSym or MNI152NLin6Asym. Not heeded with `dseg`.

    Returns
    -------
    DataFrame
        ``map`` (the file, by its path where another folder's is called alike; and the number of
        the volume where there are several), then as `relevance_by_region` or `dense_by_region`
        gives it.

    Raises
    ------
    UserError
        A file is missing, given twice or cannot be read, the table is not called ``.tsv``, the
        space is none of these, there are both an atlas and a label volume, or a map reaches no
        region.
    """
    _check(maps, out, space=space, atlas=atlas, dseg=dseg, dseg_table=dseg_table)
    try:
        regions = _Regions(atlas or hcpmmp_atlas(), space, dseg, dseg_table)
        table = pd.concat(
            [
                one
                for path, name in zip(maps, _names(maps), strict=True)
                for one in _tables(path, name, regions)
            ],
            ignore_index=True,
        )
    except ValueError as error:
        raise UserError(str(error)) from error
    save_table(out, table)
    content = {
        "Description": "Maps by region: one row a map and region",
        "Atlas": dseg.name if dseg else regions.atlas.name,
        "Space": "of the label volume" if dseg else space,
        "Sources": [path.name for path in maps],
        "SourcesSHA256": [digest_file(path) for path in maps],
        **COLUMN_NOTES,
        "SideIsGuess": any(says_guess(path) for path in (*maps, *([dseg] if dseg else []))),
        "GeneratedBy": provenance(),
    }
    write_json(out.with_suffix(".json"), content)
    return table


class _Regions:
    """The regions of maps: those of a label volume, or an atlas on each grid that occurs."""

    def __init__(self, atlas: Atlas, space: str, dseg: Path | None, table: Path | None) -> None:
        self.atlas, self.dseg = atlas, dseg
        self._space = space
        self._own = None if dseg is None else _read_own(dseg, table)
        self._grids: dict[tuple[tuple[int, ...], bytes], Parcellation] = {}

    def of(self, path: Path, shape: tuple[int, int, int], affine: Affine) -> Parcellation:
        """Return the regions for a map, which must reach at least one of them."""
        key = (shape, affine.tobytes())
        if key not in self._grids:
            found = self._own or _on_grid(self.atlas, shape, affine, self._space)
            where = np.argwhere(found.labels > 0) @ found.affine[:3, :3].T + found.affine[:3, 3]
            if not label_at(np.ones(shape, dtype=np.uint8), affine, where).any():
                msg = (
                    f"{path} must lie where the regions of "
                    f"{self.dseg or f'{self.atlas.name} in {self._space}'} are, it reaches none; "
                    f"give a label volume of the map's own space (--dseg), or the map's --space"
                )
                raise ValueError(msg)
            self._grids[key] = found
        return self._grids[key]


def _check(
    maps: Sequence[Path],
    out: Path,
    *,
    space: str,
    atlas: Atlas | None,
    dseg: Path | None,
    dseg_table: Path | None,
) -> None:
    if out.suffix != ".tsv":
        msg = f"the table's name must end in .tsv, got {out.name}; rename it"
        raise UserError(msg)
    if dseg is not None and atlas is not None:
        msg = f"regions must come from one source, got {dseg} and an atlas; leave one of them out"
        raise UserError(msg)
    if dseg is None and dseg_table is not None:
        msg = f"{dseg_table} must name the regions of a label volume, got none; add --dseg"
        raise UserError(msg)
    if dseg is None and space not in _SPACES:
        msg = (
            f"the maps' space must be {' or '.join(_SPACES)}, got {space}; resample them, or give "
            f"a label volume of their own space with --dseg"
        )
        raise UserError(msg)
    given = (*maps, dseg, dseg_table)
    if missing := [str(path) for path in given if path and not path.is_file()]:
        msg = f"all files must be there, missing: {', '.join(missing)}; check the paths"
        raise UserError(msg)
    if twice := [str(path) for path, count in Counter(maps).items() if count > 1]:
        msg = f"each map must be given once, got several times: {', '.join(twice)}; leave one"
        raise UserError(msg)


def _names(maps: Sequence[Path]) -> list[str]:
    """Call maps by their files; those of one name in several folders by their paths."""
    count = Counter(path.name for path in maps)
    return [path.name if count[path.name] == 1 else str(path) for path in maps]


def _tables(path: Path, name: str, regions: _Regions) -> Iterator[pd.DataFrame]:
    if path.name.endswith(_DENSE):
        if regions.dseg is not None or regions.atlas.name != HCPMMP:
            msg = f"{path.name} must be tabulated by HCP-MMP; use wb_command -cifti-parcellate"
            raise ValueError(msg)
        found = [dense_by_region(one) for one in load_dense_scalars(path)]
    else:
        volumes, affine = load_series(path)
        parcels = regions.of(path, volumes[0].shape, affine)
        found = [_of_volume(one, affine, parcels) for one in volumes]
    for number, table in enumerate(found):
        named = table.copy()
        named.insert(0, "map", name if len(found) == 1 else f"{name}:{number}")
        yield named


def _of_volume(volume: np.ndarray, affine: Affine, parcels: Parcellation) -> pd.DataFrame:
    table = relevance_by_region(volume, affine, parcels, known=~np.isnan(volume))
    return table[table["index"] >= 0]


def _read_own(dseg: Path, table: Path | None) -> Parcellation:
    labels, affine = load_labels(dseg)
    beside = table or dseg_table_of(dseg)
    if f"_atlas-{HCPMMP}_" in dseg.name and not beside.is_file():
        return Parcellation(labels, affine, hcpmmp_atlas().regions, "own")
    return Parcellation(labels, affine, read_dseg_table(beside), "own")


def _on_grid(
    atlas: Atlas, shape: tuple[int, int, int], affine: Affine, space: str
) -> Parcellation:
    if space == TEMPLATE_SPACE:
        return atlas.volume(shape, affine)
    points = np.indices(shape).reshape(3, -1).T @ affine[:3, :3].T + affine[:3, 3]
    labels = atlas.label_points(template_from_fslr_volume(points))
    return Parcellation(labels.reshape(shape), affine, atlas.regions, space)
