"""Places with names, statistics over them, and the file formats."""

from hemitwin.atlases.atlas import Atlas
from hemitwin.atlases.dense_assembly import assemble_dense, spread_cortex
from hemitwin.atlases.dense_tables import dense_by_region
from hemitwin.atlases.formats.atlas_files import load_atlas
from hemitwin.atlases.formats.cifti import (
    load_dense_scalars,
    save_dense_labels,
    save_dense_scalar,
    save_parcel_connectivity,
    save_parcel_scalar,
)
from hemitwin.atlases.formats.freesurfer import (
    FREESURFER_SIDES,
    load_annotation,
    load_freesurfer_surface,
    scanner_from_surface,
)
from hemitwin.atlases.formats.freesurfer_subject import FreeSurferSubject, find_freesurfer_subject
from hemitwin.atlases.formats.gifti import (
    load_surface,
    save_metric,
    save_surface,
    save_surface_labels,
)
from hemitwin.atlases.formats.nifti import save_labels_volume, save_volume, save_volumes
from hemitwin.atlases.formats.region_rows import regions_of_table
from hemitwin.atlases.formats.tables import (
    dseg_table_of,
    read_dseg_table,
    save_dseg_table,
    save_table,
)
from hemitwin.atlases.grayordinates import (
    FREESURFER_STRUCTURES,
    grayordinates_from_volume,
    parcellate_dense,
    subcortex_centres,
)
from hemitwin.atlases.hcp_files import data_versions
from hemitwin.atlases.hcpmmp import HCPMMP, hcpmmp_atlas, hcpmmp_surface_labels, hcpmmp_volume
from hemitwin.atlases.parcellation import Parcellation, region_centres
from hemitwin.atlases.region_names import is_no_area, side_of_name, sided_name
from hemitwin.atlases.region_tables import COLUMN_NOTES, asymmetry_by_pair, relevance_by_region
from hemitwin.atlases.region_values import region_values
from hemitwin.atlases.regions import Region, hcpmmp_regions
from hemitwin.atlases.smoothing import smooth_grayordinates, smooth_on_surface, smooth_volume
from hemitwin.atlases.surfaces.meshes import (
    BRAIN_SURFACES,
    Surface,
    fslr_surface_file,
    load_fslr_surface,
    project_to_surface,
    warp_surface,
)
from hemitwin.atlases.surfaces.offset import template_from_fslr
from hemitwin.atlases.surfaces.ribbon import Ribbon, label_in_ribbons
from hemitwin.atlases.surfaces.ribbon_mapping import project_through_ribbon
from hemitwin.atlases.surfaces.spheres import fslr_interpolation, surface_on_fslr
from hemitwin.atlases.templates import (
    TEMPLATE_SPACE,
    TemplateImage,
    load_template,
    template_grid,
    template_on_grid,
)
from hemitwin.atlases.volume_offset import template_from_fslr_volume
from hemitwin.atlases.workbench.palettes import Palette, relevance_palette
from hemitwin.atlases.workbench.scenes import write_scene, write_spec
from hemitwin.atlases.workbench.views import (
    DataFile,
    Overlay,
    SurfaceMontage,
    View,
    VolumeSlices,
    WholeBrain,
)
from hemitwin.atlases.world import label_at

# fmt: off
__all__ = [
    "BRAIN_SURFACES", "COLUMN_NOTES", "FREESURFER_SIDES", "FREESURFER_STRUCTURES", "HCPMMP",
    "TEMPLATE_SPACE", "Atlas", "DataFile", "FreeSurferSubject", "Overlay", "Palette",
    "Parcellation", "Region", "Ribbon", "Surface", "SurfaceMontage", "TemplateImage", "View",
    "VolumeSlices", "WholeBrain", "assemble_dense", "asymmetry_by_pair", "data_versions",
    "dense_by_region", "dseg_table_of", "find_freesurfer_subject", "fslr_interpolation",
    "fslr_surface_file", "grayordinates_from_volume", "hcpmmp_atlas", "hcpmmp_regions",
    "hcpmmp_surface_labels", "hcpmmp_volume", "is_no_area", "label_at", "label_in_ribbons",
    "load_annotation", "load_atlas", "load_dense_scalars", "load_freesurfer_surface",
    "load_fslr_surface", "load_surface", "load_template", "parcellate_dense",
    "project_through_ribbon", "project_to_surface", "read_dseg_table", "region_centres",
    "region_values", "regions_of_table", "relevance_by_region", "relevance_palette",
    "save_dense_labels", "save_dense_scalar", "save_dseg_table", "save_labels_volume",
    "save_metric", "save_parcel_connectivity", "save_parcel_scalar", "save_surface",
    "save_surface_labels", "save_table", "save_volume", "save_volumes", "scanner_from_surface",
    "side_of_name", "sided_name", "smooth_grayordinates", "smooth_on_surface", "smooth_volume",
    "spread_cortex", "subcortex_centres", "surface_on_fslr", "template_from_fslr",
    "template_from_fslr_volume", "template_grid", "template_on_grid", "warp_surface",
    "write_scene", "write_spec",
]
