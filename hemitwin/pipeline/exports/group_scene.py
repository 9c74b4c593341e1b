"""The scene of a group: the regions' ranking on the cortex, on flat maps and in slices."""

from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pandas as pd

from hemitwin._shapes import Affine, Grid
from hemitwin.atlases import (
    TEMPLATE_SPACE,
    DataFile,
    Overlay,
    Palette,
    SurfaceMontage,
    View,
    VolumeSlices,
    hcpmmp_volume,
    load_template,
    relevance_palette,
    save_volume,
    template_grid,
    write_scene,
    write_spec,
)
from hemitwin.pipeline.exports.render import find_workbench, render_scenes
from hemitwin.pipeline.exports.shared_atlas import SharedAtlas, write_shared_atlas
from hemitwin.pipeline.stage.bids import sidecar_of
from hemitwin.pipeline.stage.dataset import provenance
from hemitwin.pipeline.stage.errors import UserError
from hemitwin.pipeline.stage.json_files import write_json
from hemitwin.pipeline.stage.names import ranking_path
from hemitwin.pipeline.stage.records import Record

__all__ = ["GroupScene", "write_group_scene"]

_RANKINGS = ("share", "enrichment")
_OPACITY = 0.8
# Rows, columns and millimetres between slices: 120 mm about the middle one.
_MONTAGE, _MIDDLE_MM = (4, 5, 6), 10.0


@dataclass(frozen=True)
class GroupScene:
    """What was written for a group.

    Parameters
    ----------
    spec, scene : Path
        What to open in Workbench.
    scene_names : tuple of str
        The scenes in it.
    volumes : tuple of Path
        Each ranking as a volume of template space.
    pictures : tuple of Path
        Of the scenes; empty where they were not asked for or Workbench is absent.
    """

    spec: Path
    scene: Path
    scene_names: tuple[str, ...]
    volumes: tuple[Path, ...]
    pictures: tuple[Path, ...] = ()


def write_group_scene(
    derivatives: Path, desc: str, *, cache: Path, render: bool = False
) -> GroupScene:
    """Write spec and scene of a group's ranking, and the ranking as volumes.

    Parameters
    ----------
    derivatives : Path
        The folder in which `hemitwin rank` wrote table and ``.pscalar.nii`` files.
    desc : str
        The maps' ``desc`` entity, with its modality (`map_desc`).
    cache : Path
        Where the atlas is kept between runs.
    render : bool
        Draw every scene with Workbench.

    Returns
    -------
    GroupScene

    Raises
    ------
    UserError
        The ranking is not there.
    """
    table, *parcels = _find_ranking(derivatives, desc)
    shared = write_shared_atlas(derivatives / "atlas", cache=cache)
    template = _template(derivatives / "atlas")
    volumes = _write_volumes(derivatives, table, desc, cache)
    scenes = [
        view
        for name, parcel, volume in zip(_RANKINGS, parcels, volumes, strict=True)
        for view in _scenes(name, shared, DataFile(parcel), DataFile(volume), template)
    ]
    name = "group" if desc == "lrp" else f"group_desc-{desc}"
    spec, scene = (derivatives / "workbench" / f"{name}{end}" for end in (".wb.spec", ".scene"))
    write_spec(spec, (*shared.files, template, *map(DataFile, (*parcels, *volumes))))
    write_scene(scene, scenes)
    names = tuple(view.name for view in scenes)
    program = find_workbench() if render else None
    pictures = render_scenes(scene, names, program) if program else ()
    return GroupScene(spec, scene, names, volumes, pictures)


def _find_ranking(derivatives: Path, desc: str) -> list[Path]:
    """Find the table, and a file of parcels for each ranking."""
    paths = [ranking_path(derivatives, desc, figure=name) for name in ("", *_RANKINGS)]
    if missing := [path.name for path in paths if not path.is_file()]:
        msg = (
            f"{derivatives} must hold the ranking, not found: {', '.join(missing)}; run "
            f"'hemitwin rank {derivatives}'"
        )
        raise UserError(msg)
    return paths


def _template(folder: Path) -> DataFile:
    """Write the template's T1w image, in 255 steps as it was made, unless it is there."""
    path = folder / f"tpl-{TEMPLATE_SPACE}_res-1_T1w.nii.gz"
    record = Record("rank", computation=1, inputs={}, settings={"nilearn": version("nilearn")})

    def make() -> tuple[dict[str, str], list[Path]]:
        image = load_template(1.0)
        data = np.rint(image.data * 255).astype(np.int32)
        save_volume(path, data, image.affine, space=TEMPLATE_SPACE)
        return {"Description": "The symmetric template"}, [path]

    record.ensure(sidecar_of(path), make)
    return DataFile(path)


def _write_volumes(derivatives: Path, table: Path, desc: str, cache: Path) -> tuple[Path, ...]:
    """Paint regions with their figures: in slices Workbench shows a pscalar's deep ones only."""
    parcels = hcpmmp_volume(*template_grid(2.0), cache_dir=cache)
    ranking = pd.read_csv(table, sep="\t")
    paths = []
    for name in _RANKINGS:
        figures = np.zeros(max(region.index for region in parcels.regions) + 1)
        figures[ranking["index"].to_numpy(int)] = ranking[name].to_numpy(float)
        path = derivatives / (
            f"group_space-{TEMPLATE_SPACE}_res-2_atlas-HCPMMP1_desc-{desc}ranking{name}"
            "_relevance.nii.gz"
        )
        palette = relevance_palette(figures)  # that of the pscalar: large regions weigh no more
        _write_volume(path, figures[parcels.labels], parcels.affine, palette, name)
        paths.append(path)
    return tuple(paths)


def _write_volume(path: Path, values: Grid, affine: Affine, palette: Palette, name: str) -> None:
    save_volume(path, values, affine, space=TEMPLATE_SPACE, description=name, palette=palette)
    content = {
        "Description": f"Each region's {name} of the group's relevance, in all of its voxels",
        "SpatialReference": TEMPLATE_SPACE,
        "GeneratedBy": provenance(),
    }
    write_json(sidecar_of(path), content)


def _scenes(
    name: str, shared: SharedAtlas, parcels: DataFile, volume: DataFile, template: DataFile
) -> tuple[View, ...]:
    on_cortex = (Overlay(parcels),)
    left, right = (
        next(
            file
            for file in shared.files
            if file.hemisphere == side and file.path.name.endswith("_flat.surf.gii")
        )
        for side in ("L", "R")
    )
    return (
        SurfaceMontage(f"{name} on the cortex", *shared.inflated, on_cortex),
        SurfaceMontage(f"{name} on flat maps", left, right, on_cortex, flat=True),
        VolumeSlices(
            f"{name} in slices",
            (Overlay(volume, _OPACITY), Overlay(template)),
            position_mm=(0.0, 0.0, _MIDDLE_MM),
            plane="AXIAL",
            montage=_MONTAGE,
        ),
    )
