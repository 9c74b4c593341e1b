"""The surface files of an export: meshes over the scan, metrics, and CIFTI files."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float

from hemitwin.atlases import (
    BRAIN_SURFACES,
    TEMPLATE_SPACE,
    DataFile,
    Surface,
    assemble_dense,
    load_fslr_surface,
    load_surface,
    parcellate_dense,
    project_through_ribbon,
    project_to_surface,
    relevance_palette,
    save_dense_scalar,
    save_metric,
    save_parcel_scalar,
    save_surface,
    smooth_grayordinates,
    spread_cortex,
    subcortex_centres,
    warp_surface,
)
from hemitwin.pipeline.exports.material import ExportMaterial
from hemitwin.pipeline.regions.atlas_files import own_deformation
from hemitwin.pipeline.regions.surface_set import read_surface_set, surface_files
from hemitwin.pipeline.stage.json_files import write_json
from hemitwin.pipeline.stage.names import surface_path

__all__ = ["ExportedSurfaces", "write_surfaces"]

_SIDES = ("L", "R")
_GROUP = "of the S1200 group, not deformed"
_AS_IN_TEMPLATE = "read where its voxels lie in the template"
_DEFORMED = "read where the deformation by 'hemitwin atlas' leads its voxels"
_MAPPINGS = {
    "trilinear": "trilinear at the midthickness",
    "ribbon": "mean of six points between the white and the pial surface, each trilinear",
}


@dataclass(frozen=True)
class ExportedSurfaces:
    """Files over vertices.

    Parameters
    ----------
    meshes : tuple of DataFile
        Every surface over the scan.
    midthickness, metrics : (left, right) DataFile
        Surfaces over the scan, and relevance at their vertices.
    dense, parcels : DataFile
        Relevance at the grayordinates, and its means over regions.
    """

    meshes: tuple[DataFile, ...]
    midthickness: tuple[DataFile, DataFile]
    metrics: tuple[DataFile, DataFile]
    dense: DataFile
    parcels: DataFile

    @property
    def files(self) -> tuple[DataFile, ...]:
        """All of them."""
        return (*self.meshes, *self.metrics, self.dense, self.parcels)


def write_surfaces(made: ExportMaterial) -> ExportedSurfaces:
    """Read the map at the surfaces over the scan, and write it in every format."""
    known = read_surface_set(made.case, made.out)
    own = () if known is None else surface_files(made.case, made.out)
    surfaces = {
        side: {kind: _over_scan(made, side, kind, own=bool(own)) for kind in BRAIN_SURFACES}
        for side in _SIDES
    }
    between = {side: surfaces[side]["midthickness"] for side in _SIDES}
    left, right = (_midthickness(made, between[side], own=bool(own)) for side in _SIDES)
    meshes = tuple(DataFile(path, side) for path, side in own) or (left, right)
    details: dict[str, object] = {
        "Mapping": _MAPPINGS[made.config.mapping],
        "Surfaces": _GROUP if known is None else known["Origin"],
        "SurfaceFiles": [f"bids::{file.path.relative_to(made.out).as_posix()}" for file in meshes],
    }
    cortex = {side: _read(made, surfaces[side]) for side in _SIDES}
    inside = _subcortex(made)
    details["Subcortex"] = _AS_IN_TEMPLATE if inside is None else _DEFORMED
    raw = dense = assemble_dense(cortex, made.relevance.data, made.relevance.affine, inside)
    if made.config.smooth_mm is not None:
        dense = smooth_grayordinates(raw, made.config.smooth_mm, between)
        cortex = {side: spread_cortex(dense, side) for side in _SIDES}
    on_left, on_right = (_write_metric(made, side, cortex[side], details) for side in _SIDES)
    written = _write_dense(made, dense, details)
    # Means over regions are smooth enough, and smoothing before would mix the regions.
    parcels = _write_parcels(made, parcellate_dense(raw), details)
    return ExportedSurfaces(meshes, (left, right), (on_left, on_right), written, parcels)


def _midthickness(made: ExportMaterial, surface: Surface, *, own: bool) -> DataFile:
    """Name the surface's file, and write it where `hemitwin atlas` did not."""
    path = surface_path(made.case, made.out, surface.hemisphere, surface.kind)
    if not own:
        save_surface(path, surface, metadata=made.metadata)
    return DataFile(path, surface.hemisphere)


def _over_scan(made: ExportMaterial, side: str, kind: str, *, own: bool) -> Surface:
    """Give one surface in the scan's millimetres."""
    if own:
        return load_surface(surface_path(made.case, made.out, side, kind), side, kind=kind)
    group = load_fslr_surface(side, kind, space=TEMPLATE_SPACE)
    return warp_surface(group, made.native.from_template)


def _subcortex(made: ExportMaterial) -> Float[np.ndarray, "v 3"] | None:
    """Find the subcortical voxels in the prepared volume, where the template was deformed."""
    deformation = own_deformation(made.case, made.out)
    return None if deformation is None else deformation.from_template(subcortex_centres())


def _read(made: ExportMaterial, surfaces: Mapping[str, Surface]) -> Float[np.ndarray, " n"]:
    volume = made.relevance.data
    affine = made.native.from_template @ made.relevance.affine
    if made.config.mapping == "ribbon":
        return project_through_ribbon(volume, affine, surfaces["white"], surfaces["pial"])
    return project_to_surface(volume, affine, surfaces["midthickness"])


def _write_metric(
    made: ExportMaterial, side: str, values: Float[np.ndarray, " n"], details: Mapping[str, object]
) -> DataFile:
    path = made.path(f"hemi-{side}_space-fsLR_den-32k_desc-{made.desc}_relevance.shape.gii")
    save_metric(
        path, values, side, name=made.map_name, palette=made.palette, metadata=made.metadata
    )
    _write_sidecar(made, path, ".shape.gii", "Relevance at the vertices of the cortex", details)
    return DataFile(path, side)


def _write_dense(
    made: ExportMaterial, values: Float[np.ndarray, " g"], details: Mapping[str, object]
) -> DataFile:
    path = made.path(f"space-fsLR_den-91k_desc-{made.desc}_relevance.dscalar.nii")
    save_dense_scalar(
        path, values, name=made.map_name, palette=made.palette, metadata=made.metadata
    )
    _write_sidecar(made, path, ".dscalar.nii", "Relevance at the 91282 grayordinates", details)
    return DataFile(path)


def _write_parcels(
    made: ExportMaterial, values: Float[np.ndarray, " regions"], details: Mapping[str, object]
) -> DataFile:
    path = made.path(f"space-fsLR_atlas-HCPMMP1_desc-{made.desc}_relevance.pscalar.nii")
    palette = relevance_palette(values)
    save_parcel_scalar(path, values, name=made.map_name, palette=palette, metadata=made.metadata)
    said = "Mean relevance over each region's grayordinates, which were not smoothed before"
    _write_sidecar(made, path, ".pscalar.nii", said, details)
    return DataFile(path)


def _write_sidecar(
    made: ExportMaterial, path: Path, ending: str, said: str, details: Mapping[str, object]
) -> None:
    sidecar = path.with_name(path.name.removesuffix(ending) + ".json")
    write_json(sidecar, made.sidecar(said, **details))
