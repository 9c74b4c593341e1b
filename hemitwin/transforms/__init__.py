"""What happens to one volume."""

from hemitwin.transforms.alignment.deformation import Deformation, register_deformation
from hemitwin.transforms.alignment.deformation_files import load_deformation, save_deformation
from hemitwin.transforms.alignment.itk_affine import read_itk_affine, write_itk_affine
from hemitwin.transforms.alignment.masking import (
    background_value,
    brain_mask,
    dark_layer,
    is_skull_stripped,
)
from hemitwin.transforms.alignment.midplane import (
    midplane_motion,
    mirror_asymmetry,
    refine_midplane,
)
from hemitwin.transforms.alignment.registration import register_similarity, similarity_quality
from hemitwin.transforms.alignment.resampling import resample, resample_back
from hemitwin.transforms.asymmetries.injection import asymmetry_region, inject_asymmetry
from hemitwin.transforms.asymmetries.sampling import sample_asymmetry
from hemitwin.transforms.asymmetries.spec import AsymmetryConfig, AsymmetrySpec
from hemitwin.transforms.augmentation import (
    AugmentationConfig,
    Comparison,
    RandAugmentBraind,
    RandElastic,
)
from hemitwin.transforms.coarsening import coarsen, refine_sum
from hemitwin.transforms.hemispheres import (
    HemispherePair,
    SplitHemispheresd,
    mirror_affine,
    rejoin,
    require_centred,
    split_hemispheres,
)
from hemitwin.transforms.image_augmentation import ImageAugmentationConfig, augment_images
from hemitwin.transforms.intensity import (
    StandardiseBraind,
    above_darkest,
    robust_scale,
    standardise,
    standardise_images,
    standardise_pixels,
)
from hemitwin.transforms.laterality import GuardedCompose, RequireLateralityd, require_laterality
from hemitwin.transforms.lesions.box import LesionBox, lesion_alpha, lesion_box
from hemitwin.transforms.lesions.config import LesionConfig
from hemitwin.transforms.lesions.injection import inject_lesion, lesion_support
from hemitwin.transforms.lesions.mask_library import LesionMaskLibrary
from hemitwin.transforms.lesions.sampling import RandLesionsd, sample_lesion
from hemitwin.transforms.lesions.spec import SIDES, LesionSpec, Side
from hemitwin.transforms.lesions.tissue import grey_matter_limits
from hemitwin.transforms.loading import (
    Scan,
    guessed_side,
    load_geometry,
    load_labels,
    load_mask,
    load_scan,
    load_series,
    load_volume,
    volume_members,
    voxel_sizes,
)
from hemitwin.transforms.slice_asymmetry import ShapeConfig, ShapeSpec, draw_shape, sample_shape
from hemitwin.transforms.slice_grid import SliceGrid
from hemitwin.transforms.slices import CutPlanes, Plane, slice_positions, slice_volume
from hemitwin.transforms.synthetic.anatomy import (
    AnatomyConfig,
    AnatomySpec,
    deform_anatomy,
    render_anatomy,
    sample_anatomy,
)
from hemitwin.transforms.synthetic.heredity import (
    Genes,
    heritable_displacement,
    least_jacobian,
    limit_folding,
)
from hemitwin.transforms.synthetic.scanner import (
    ScannerConfig,
    ScannerSpec,
    apply_scanner,
    sample_scanner,
)

__all__ = [
    "SIDES",
    "AnatomyConfig",
    "AnatomySpec",
    "AsymmetryConfig",
    "AsymmetrySpec",
    "AugmentationConfig",
    "Comparison",
    "CutPlanes",
    "Deformation",
    "Genes",
    "GuardedCompose",
    "HemispherePair",
    "ImageAugmentationConfig",
    "LesionBox",
    "LesionConfig",
    "LesionMaskLibrary",
    "LesionSpec",
    "Plane",
    "RandAugmentBraind",
    "RandElastic",
    "RandLesionsd",
    "RequireLateralityd",
    "Scan",
    "ScannerConfig",
    "ScannerSpec",
    "ShapeConfig",
    "ShapeSpec",
    "Side",
    "SliceGrid",
    "SplitHemispheresd",
    "StandardiseBraind",
    "above_darkest",
    "apply_scanner",
    "asymmetry_region",
    "augment_images",
    "background_value",
    "brain_mask",
    "coarsen",
    "dark_layer",
    "deform_anatomy",
    "draw_shape",
    "grey_matter_limits",
    "guessed_side",
    "heritable_displacement",
    "inject_asymmetry",
    "inject_lesion",
    "is_skull_stripped",
    "least_jacobian",
    "lesion_alpha",
    "lesion_box",
    "lesion_support",
    "limit_folding",
    "load_deformation",
    "load_geometry",
    "load_labels",
    "load_mask",
    "load_scan",
    "load_series",
    "load_volume",
    "midplane_motion",
    "mirror_affine",
    "mirror_asymmetry",
    "read_itk_affine",
    "refine_midplane",
    "refine_sum",
    "register_deformation",
    "register_similarity",
    "rejoin",
    "render_anatomy",
    "require_centred",
    "require_laterality",
    "resample",
    "resample_back",
    "robust_scale",
    "sample_anatomy",
    "sample_asymmetry",
    "sample_lesion",
    "sample_scanner",
    "sample_shape",
    "save_deformation",
    "similarity_quality",
    "slice_positions",
    "slice_volume",
    "split_hemispheres",
    "standardise",
    "standardise_images",
    "standardise_pixels",
    "volume_members",
    "voxel_sizes",
    "write_itk_affine",
]
