"""Export: relevance and atlas as NIfTI, GIFTI and CIFTI, with a spec and a scene to open."""

from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from hemitwin.atlases import (
    TEMPLATE_SPACE,
    DataFile,
    Overlay,
    Palette,
    SurfaceMontage,
    VolumeSlices,
    grayordinates_from_volume,
    hcpmmp_volume,
    load_fslr_surface,
    parcellate_dense,
    project_to_surface,
    relevance_palette,
    save_dense_scalar,
    save_labels_volume,
    save_metric,
    save_parcel_scalar,
    save_surface,
    save_volume,
    warp_surface,
    write_scene,
    write_spec,
)
from hemitwin.pipeline.bids import Case, Modality, sidecar_of
from hemitwin.pipeline.map_request import map_desc
from hemitwin.pipeline.native_space import NativeSpace
from hemitwin.pipeline.outputs import provenance, read_matching_sidecar, write_json
from hemitwin.pipeline.parcellate import find_explained, read_relevance
from hemitwin.pipeline.render import find_workbench, render_scenes, render_surfaces
from hemitwin.pipeline.runner import Outcome, run_cases
from hemitwin.pipeline.shared_atlas import SharedAtlas, write_shared_atlas
from hemitwin.pipeline.subject_atlas import native_atlas_path, native_surfaces, surface_path
from hemitwin.transforms import Scan, load_scan, resample_back

__all__ = ["Exported", "export", "export_case"]

_SIDES = ("L", "R")


@dataclass(frozen=True)
class Exported:
    """What was written for one case.

    Parameters
    ----------
    case : Case
        Whose files they are.
    files : tuple of Path
        Every file, sidecars left out.
    spec, scene : Path
        What to open in Workbench.
    scene_names : tuple of str
        The scenes in it.
    pictures : tuple of Path
        Of the scenes; empty where they were not asked for.
    """

    case: Case
    files: tuple[Path, ...]
    spec: Path
    scene: Path
    scene_names: tuple[str, ...]
    pictures: tuple[Path, ...] = ()


@dataclass(frozen=True, eq=False)
class _Material:
    """All that one case's files are made from."""

    case: Case
    out: Path
    desc: str
    relevance: Scan
    prepared: Scan
    native: NativeSpace
    palette: Palette
    shared: SharedAtlas

    @property
    def native_space(self) -> str:
        return self.case.modality

    def path(self, tail: str) -> Path:
        return self.case.path(self.out, tail)


def export(
    derivatives: Path,
    *,
    cache: Path,
    labels: tuple[str, ...] | None = None,
    desc: str = "lrp",
    modality: Modality = "T1w",
    render: bool = False,
) -> Outcome[Exported]:
    """Export explained subjects for Connectome Workbench and other viewers.

    Parameters
    ----------
    derivatives : Path
        The folder with the relevance maps; the files are written into it.
    cache : Path
        Where the atlas is kept between runs.
    labels : tuple of str, optional
        Subjects; all that were explained by default.
    desc : str
        Which map.
    modality : {'T1w', 'T2w', 'FLAIR'}
        Of the explained volumes.
    render : bool
        Draw every scene with Workbench; where that is absent, the cortex with nilearn.

    Returns
    -------
    Outcome of Exported

    Raises
    ------
    UserError
        There is no map to export.
    """
    cases = find_explained(derivatives, desc, labels=labels, modality=modality)
    shared = write_shared_atlas(derivatives / "atlas", cache=cache)
    work = partial(export_case, derivatives=derivatives, shared=shared, desc=desc, render=render)
    return run_cases(work, cases, stage="export", log_folder=derivatives / "logs")


def export_case(
    case: Case, derivatives: Path, shared: SharedAtlas, desc: str, *, render: bool = False
) -> Exported:
    """Export one case.

    Raises
    ------
    CaseError
        The map has no audit, or the prepared volume's sidecar is missing.
    """
    material = _gather(case, derivatives, shared, desc)
    volumes = _write_volumes(material)
    surfaces = _write_surfaces(material)
    ciftis = _write_ciftis(material)
    # What `relate` wrote belongs to the same subject, whichever map is exported.
    tail = f"space-{TEMPLATE_SPACE}_atlas-HCPMMP1_desc-bilrp_relmat.pconn.nii"
    matrices = (DataFile(path),) if (path := case.path(derivatives, tail)).is_file() else ()
    files = (*volumes, *surfaces, *ciftis, *matrices)
    stem = case.name if material.desc == "lrp" else f"{case.name}_desc-{material.desc}"
    spec = derivatives / "workbench" / f"{stem}.wb.spec"
    write_spec(spec, (*shared.files, *files))
    scenes = _scenes(material, ciftis, volumes)
    scene = derivatives / "workbench" / f"{stem}.scene"
    write_scene(scene, scenes)
    paths = (*(file.path for file in files), spec, scene)
    names = tuple(one.name for one in scenes)
    pictures = _pictures(material, scene, names, surfaces) if render else ()
    return Exported(case, paths, spec, scene, names, pictures)


def _pictures(
    made: _Material, scene: Path, names: tuple[str, ...], surfaces: tuple[DataFile, ...]
) -> tuple[Path, ...]:
    program = find_workbench()
    if program is not None:
        return render_scenes(scene, names, program)
    metrics = [file.path for file in surfaces if file.path.name.endswith(".shape.gii")]
    inflated = [file.path for file in made.shared.inflated]
    picture = scene.with_name(f"{scene.stem}_relevance-on-the-cortex.png")
    sides = list(zip(inflated, metrics, strict=True))
    return (render_surfaces(picture, sides, f"{made.case.name}: relevance"),)


def _gather(case: Case, derivatives: Path, shared: SharedAtlas, desc: str) -> _Material:
    relevance, _ = read_relevance(case, derivatives, desc)
    return _Material(
        case=case,
        out=derivatives,
        desc=map_desc(case, desc),
        relevance=relevance,
        prepared=load_scan(case.scan),
        native=NativeSpace.of(case, "export"),
        palette=relevance_palette(relevance.data),
        shared=shared,
    )


def _write_volumes(made: _Material) -> tuple[DataFile, ...]:
    native_map = made.path(f"space-{made.native_space}_desc-{made.desc}_relevance.nii.gz")
    values = resample_back(
        made.relevance.data,
        made.relevance.affine,
        made.native.grid,
        made.native.from_template,
        preserve_sum=True,
    )
    palette = relevance_palette(values)
    save_volume(native_map, values, made.native.grid.affine, palette=palette)
    write_json(
        sidecar_of(native_map),
        {
            "Description": "Relevance on the grid of the scan, in RAS order; values are shares a "
            "voxel, so that the sum is kept",
            "SumTemplate": float(made.relevance.data.sum(dtype=np.float64)),
            "SumNative": float(values.sum(dtype=np.float64)),
            "GeneratedBy": provenance(),
        },
    )
    return DataFile(native_map), DataFile(_native_atlas(made))


def _native_atlas(made: _Material) -> Path:
    """Take the subject's own regions where `hemitwin atlas` made them, else the template's."""
    path = native_atlas_path(made.case, made.out)
    if read_matching_sidecar(path) is None:
        grid, native_from_template = made.native.grid, made.native.from_template
        template_from_native = np.linalg.inv(native_from_template)
        parcels = hcpmmp_volume(
            grid.data.shape, template_from_native @ grid.affine, cache_dir=None
        ).moved(native_from_template, space=made.native_space)
        save_labels_volume(path, parcels)
    return path


def _write_surfaces(made: _Material) -> tuple[DataFile, ...]:
    own = native_surfaces(made.case, made.out)
    written = [DataFile(path, side) for path, side in own]
    for side in _SIDES:
        surface = load_fslr_surface(side, space=TEMPLATE_SPACE)
        metric = made.path(f"hemi-{side}_space-fsLR_den-32k_desc-{made.desc}_relevance.shape.gii")
        values = project_to_surface(made.relevance.data, made.relevance.affine, surface)
        name = f"{made.case.name} relevance"
        save_metric(metric, values, side, name=name, palette=made.palette)
        written.append(DataFile(metric, side))
        if not own:
            native = surface_path(made.case, made.out, side, surface.kind)
            save_surface(native, warp_surface(surface, made.native.from_template))
            written.append(DataFile(native, side))
    return tuple(written)


def _write_ciftis(made: _Material) -> tuple[DataFile, ...]:
    dense = grayordinates_from_volume(made.relevance.data, made.relevance.affine)
    name = f"{made.case.name} relevance"
    scalar = made.path(f"space-fsLR_den-91k_desc-{made.desc}_relevance.dscalar.nii")
    save_dense_scalar(scalar, dense, name=name, palette=made.palette)
    regions = parcellate_dense(dense)
    parcel = made.path(f"space-fsLR_atlas-HCPMMP1_desc-{made.desc}_relevance.pscalar.nii")
    save_parcel_scalar(parcel, regions, name=name, palette=relevance_palette(regions))
    return DataFile(scalar), DataFile(parcel)


def _scenes(
    made: _Material, ciftis: tuple[DataFile, ...], volumes: tuple[DataFile, ...]
) -> tuple[SurfaceMontage | VolumeSlices, ...]:
    dense, parcel = (Overlay(file) for file in ciftis)
    left, right = made.shared.inflated
    peak = np.unravel_index(int(np.argmax(made.relevance.data)), made.relevance.data.shape)
    here = made.relevance.affine @ [*(float(index) for index in peak), 1.0]
    relevance = made.path(f"space-{TEMPLATE_SPACE}_desc-{made.desc}_relevance.nii.gz")
    scenes: list[SurfaceMontage | VolumeSlices] = [
        SurfaceMontage("relevance on the cortex", left, right, (dense,)),
        SurfaceMontage("relevance by region", left, right, (parcel,)),
        VolumeSlices(
            "relevance in template space",
            (Overlay(DataFile(relevance), 0.8), Overlay(DataFile(made.case.scan))),
            position_mm=_triple(here),
        ),
    ]
    if made.native.scan.is_file():
        native = made.native.from_template @ here
        layers = (Overlay(volumes[0], 0.8), Overlay(DataFile(made.native.scan)))
        scenes.append(VolumeSlices("relevance over the scan", layers, position_mm=_triple(native)))
    return tuple(scenes)


def _triple(point: np.ndarray) -> tuple[float, float, float]:
    return float(point[0]), float(point[1]), float(point[2])
