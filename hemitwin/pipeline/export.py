"""Export: relevance and atlas as NIfTI, GIFTI and CIFTI, with a spec and a scene to open."""

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from hemitwin._shapes import Affine
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
from hemitwin.pipeline.errors import CaseError
from hemitwin.pipeline.map_request import map_desc
from hemitwin.pipeline.outputs import provenance, read_json, write_json
from hemitwin.pipeline.parcellate import find_explained, read_relevance
from hemitwin.pipeline.runner import Outcome, run_cases
from hemitwin.pipeline.shared_atlas import SharedAtlas, write_shared_atlas
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
    """

    case: Case
    files: tuple[Path, ...]
    spec: Path
    scene: Path
    scene_names: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class _Material:
    """All that one case's files are made from."""

    case: Case
    out: Path
    desc: str
    relevance: Scan
    prepared: Scan
    scan: Path
    native: Scan
    native_from_template: Affine
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
    work = partial(export_case, derivatives=derivatives, shared=shared, desc=desc)
    return run_cases(work, cases, stage="export", log_folder=derivatives / "logs")


def export_case(case: Case, derivatives: Path, shared: SharedAtlas, desc: str) -> Exported:
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
    return Exported(case, paths, spec, scene, tuple(one.name for one in scenes))


def _gather(case: Case, derivatives: Path, shared: SharedAtlas, desc: str) -> _Material:
    relevance, _ = read_relevance(case, derivatives, desc)
    sidecar = sidecar_of(case.scan)
    if not sidecar.is_file():
        reason = f"{sidecar} must be there, with the transform; run 'hemitwin prepare' again"
        raise CaseError(case.name, "export", reason)
    content: dict[str, Any] = read_json(sidecar)
    scan = (sidecar.parent / content["SourcePath"]).resolve()
    native_affine = np.array(content["NativeAffine"], dtype=float)
    grid = np.zeros(content["NativeShape"], dtype=np.float32)
    return _Material(
        case=case,
        out=derivatives,
        desc=map_desc(case, desc),
        relevance=relevance,
        prepared=load_scan(case.scan),
        scan=scan,
        native=Scan(grid, native_affine, scan),
        native_from_template=np.array(content["NativeFromTemplate"], dtype=float),
        palette=relevance_palette(relevance.data),
        shared=shared,
    )


def _write_volumes(made: _Material) -> tuple[DataFile, ...]:
    native_map = made.path(f"space-{made.native_space}_desc-{made.desc}_relevance.nii.gz")
    values = resample_back(
        made.relevance.data,
        made.relevance.affine,
        made.native,
        made.native_from_template,
        preserve_sum=True,
    )
    palette = relevance_palette(values)
    save_volume(native_map, values, made.native.affine, palette=palette)
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
    atlas = made.path(f"space-{made.native_space}_atlas-HCPMMP1_dseg.nii.gz")
    template_from_native = np.linalg.inv(made.native_from_template)
    parcels = hcpmmp_volume(
        made.native.data.shape, template_from_native @ made.native.affine, cache_dir=None
    ).moved(made.native_from_template, space=made.native_space)
    save_labels_volume(atlas, parcels)
    return DataFile(native_map), DataFile(atlas)


def _write_surfaces(made: _Material) -> tuple[DataFile, ...]:
    written: list[DataFile] = []
    for side in _SIDES:
        surface = load_fslr_surface(side)
        metric = made.path(f"hemi-{side}_space-fsLR_den-32k_desc-{made.desc}_relevance.shape.gii")
        values = project_to_surface(made.relevance.data, made.relevance.affine, surface)
        name = f"{made.case.name} relevance"
        save_metric(metric, values, side, name=name, palette=made.palette)
        native = made.path(f"hemi-{side}_space-{made.native_space}_den-32k_midthickness.surf.gii")
        save_surface(native, warp_surface(surface, made.native_from_template))
        written.extend((DataFile(metric, side), DataFile(native, side)))
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
    if made.scan.is_file():
        native = made.native_from_template @ here
        layers = (Overlay(volumes[0], 0.8), Overlay(DataFile(made.scan)))
        scenes.append(VolumeSlices("relevance over the scan", layers, position_mm=_triple(native)))
    return tuple(scenes)


def _triple(point: np.ndarray) -> tuple[float, float, float]:
    return float(point[0]), float(point[1]), float(point[2])
