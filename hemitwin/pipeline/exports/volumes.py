"""The volumes of an export: relevance and regions on the scan's grid, and the scan itself."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hemitwin.atlases import (
    DataFile,
    hcpmmp_volume,
    relevance_palette,
    save_labels_volume,
    save_volume,
    smooth_volume,
)
from hemitwin.pipeline.exports.material import ExportMaterial
from hemitwin.pipeline.regions.atlas_files import has_own_atlas
from hemitwin.pipeline.stage.bids import sidecar_of
from hemitwin.pipeline.stage.json_files import write_json
from hemitwin.pipeline.stage.names import native_atlas_path
from hemitwin.pipeline.stage.records import Record
from hemitwin.transforms import load_scan, resample_back

__all__ = ["ExportedVolumes", "write_volumes"]


@dataclass(frozen=True)
class ExportedVolumes:
    """Volumes in the scan's own space.

    Parameters
    ----------
    relevance, atlas : DataFile
        On the grid of the scan.
    scan : DataFile or None
        The scan, in the derivatives; `None` where it is nowhere any more.
    """

    relevance: DataFile
    atlas: DataFile
    scan: DataFile | None

    @property
    def files(self) -> tuple[DataFile, ...]:
        """All of them."""
        return tuple(file for file in (self.relevance, self.atlas, self.scan) if file)


def write_volumes(made: ExportMaterial) -> ExportedVolumes:
    """Write relevance, regions and scan in the scan's own space."""
    relevance = _write_relevance(made)
    return ExportedVolumes(DataFile(relevance), DataFile(_native_atlas(made)), _keep_scan(made))


def _write_relevance(made: ExportMaterial) -> Path:
    path = made.path(f"space-{made.native_space}_desc-{made.desc}_relevance.nii.gz")
    affine = made.native.grid.affine
    values = resample_back(
        made.relevance.data,
        made.relevance.affine,
        made.native.grid,
        made.native.from_template,
        preserve_sum=True,
    )
    if made.config.smooth_mm is not None:
        values = smooth_volume(values, affine, made.config.smooth_mm)
    name = f"{made.map_name}, {made.relevance_file.path.name}"
    save_volume(path, values, affine, description=name, palette=relevance_palette(values))
    content = made.sidecar(
        "Relevance on the grid of the scan, in RAS order; values are shares a voxel, so that the "
        "sum is kept",
        SumTemplate=float(made.relevance.data.sum(dtype=np.float64)),
        SumNative=float(values.sum(dtype=np.float64)),
    )
    write_json(sidecar_of(path), content)
    return path


def _native_atlas(made: ExportMaterial) -> Path:
    """Take the subject's own regions where `hemitwin atlas` made them, else the template's."""
    path = native_atlas_path(made.case, made.out)
    if not has_own_atlas(made.case, made.out):
        grid, native_from_template = made.native.grid, made.native.from_template
        template_from_native = np.linalg.inv(native_from_template)
        parcels = hcpmmp_volume(
            grid.data.shape, template_from_native @ grid.affine, cache_dir=None
        ).moved(native_from_template, space=made.native_space)
        save_labels_volume(path, parcels)
    return path


def _keep_scan(made: ExportMaterial) -> DataFile | None:
    """Write the scan beside its maps: a scene must open where the folder was moved to.

    It is written anew, in RAS order and with a header that was settled, so that Workbench puts it
    where the maps are.
    """
    path = made.path(f"space-{made.native_space}_desc-scan_{made.case.modality}.nii.gz")
    if not made.native.scan.is_file():
        return DataFile(path) if path.is_file() else None
    record = Record("export", computation=2, inputs={"scan": made.native.scan}, settings={})

    def make() -> tuple[dict[str, object], list[Path]]:
        scan = load_scan(made.native.scan)
        whole = np.rint(scan.data)
        # Whole numbers pack to less than half of what fractions take.
        data = whole.astype(np.int32) if np.array_equal(whole, scan.data) else scan.data
        save_volume(path, data, scan.affine)
        said = "The scan in RAS order, not resampled, for scenes"
        return {"Description": said, "SideIsGuess": scan.side_is_guess}, [path]

    record.ensure(sidecar_of(path), make)
    return DataFile(path)
