"""Draw random lesions for a brain."""

from collections.abc import Hashable, Mapping
from typing import Literal, TypeVar

import numpy as np
import torch
from jaxtyping import Int
from monai.data.meta_tensor import MetaTensor
from monai.transforms.transform import MapTransform, Randomizable
from scipy import ndimage

from hemitwin._shapes import Affine, Mask
from hemitwin.transforms.lesions.appearance import sample_appearance
from hemitwin.transforms.lesions.box import lesion_offsets, share_inside, side_mask
from hemitwin.transforms.lesions.config import LesionConfig
from hemitwin.transforms.lesions.injection import inject_lesion
from hemitwin.transforms.lesions.mask_library import LesionMaskLibrary
from hemitwin.transforms.lesions.spec import LesionKind, LesionSpec, Pathology

__all__ = ["RandLesiond", "sample_lesion"]

_TRIES = 100
_SHAPES = 3
_DEEP_MM = 24.0
_DEEP_SHARE = 0.95
_Name = TypeVar("_Name", bound=str)


def sample_lesion(
    rng: np.random.Generator,
    config: LesionConfig,
    brain_mask: Mask,
    affine: Affine,
    *,
    side: Literal["L", "R"] | None = None,
    mask_library: LesionMaskLibrary | None = None,
) -> LesionSpec:
    """Draw a lesion that lies in the brain and on one side.

    Parameters
    ----------
    rng : numpy.random.Generator
        All randomness comes from it.
    config : LesionConfig
        Ranges.
    brain_mask : (x, y, z) bool
        Where lesions may be.
    affine : (4, 4)
        Voxel index to template RAS+ millimetres.
    side : 'L' or 'R', optional
        Drawn where not given.
    mask_library : LesionMaskLibrary, optional
        Needed where `config.mask_share` is positive.

    Returns
    -------
    LesionSpec
        At least `config.least_inside` of the shape lies in the brain on `side`.

    Raises
    ------
    ValueError
        If the brain has no room for it, or real masks are asked for without a library.
    """
    sides: tuple[Literal["L", "R"], Literal["L", "R"]] = ("L", "R")
    chosen = side or sides[int(rng.integers(2))]
    # np.nonzero would list three coordinates of each voxel; one of them is needed
    allowed = side_mask(brain_mask, affine, chosen)
    voxels = np.flatnonzero(allowed)
    if len(voxels) == 0:
        msg = f"the brain mask must hold voxels on side {chosen}, got none; check mask and affine"
        raise ValueError(msg)
    for _ in range(_SHAPES):
        shape = _sample_shape(rng, config, mask_library) | {"side": chosen}
        if shape["pathology"] == "white_matter":
            voxels = _deep(allowed, affine, voxels)
        offsets: Int[np.ndarray, "n 3"] | None = None
        for _ in range(_TRIES):
            flat = voxels[int(rng.integers(len(voxels)))]
            voxel = np.array(np.unravel_index(flat, brain_mask.shape))
            centre = affine[:3, :3] @ voxel + affine[:3, 3]
            spec = LesionSpec.model_validate(shape | {"centre_mm": tuple(centre.tolist())})
            if offsets is None:
                offsets = lesion_offsets(spec, affine, mask_library)
            if share_inside(voxel, offsets, allowed) >= config.least_inside:
                return spec
    msg = (
        f"a lesion must have {config.least_inside:.0%} of its shape in the brain on side "
        f"{chosen}; {_SHAPES} shapes at {_TRIES} places each had less; lower volume_mm3"
    )
    raise ValueError(msg)


def _deep(allowed: Mask, affine: Affine, voxels: Int[np.ndarray, " n"]) -> Int[np.ndarray, " m"]:
    """Keep centres deep in the upper brain, where patches of white matter are common."""
    size = [max(1, int(_DEEP_MM / (2 * s)) | 1) for s in np.linalg.norm(affine[:3, :3], axis=0)]
    few = allowed[::2, ::2, ::2].astype(np.float32)  # eight times faster, and as good
    filled = ndimage.uniform_filter(few, size, mode="constant") > _DEEP_SHARE
    index = np.stack(np.unravel_index(voxels, allowed.shape))
    above = affine[2, :3] @ index + affine[2, 3] > 0
    x, y, z = index // 2
    deep = voxels[above & filled[x, y, z]]
    return deep if len(deep) else voxels


def _sample_shape(
    rng: np.random.Generator, config: LesionConfig, library: LesionMaskLibrary | None
) -> dict[str, object]:
    pathology = _draw(rng, config.pathologies)
    role = _draw(rng, config.roles)
    kind = _draw_kind(rng, config, pathology)
    if kind == "mask" and library is None:
        msg = "mask_share > 0 must come with a mask library, got none; pass it or set 0"
        raise ValueError(msg)
    low, high = np.log(config.volume_of(pathology))
    ranges = {
        "roughness": config.roughness,
        "edge_mm": config.edge_mm,
        "contrast": config.contrasts_of(pathology).core,
        "texture": config.texture if pathology == "generic" else config.matched_texture,
        "texture_mm": config.texture_mm,
    }
    drawn: dict[str, object] = {n: float(rng.uniform(*limits)) for n, limits in ranges.items()}
    if kind == "mask" and library is not None:
        drawn |= {"mask_name": library.names[int(rng.integers(len(library.names)))]}
        drawn |= {"roughness": 0.0}  # a real edge is irregular enough
    else:
        drawn |= {"radii_ratio": tuple(rng.uniform(*config.radii_ratio, 3).tolist())}
    drawn |= {
        "kind": kind,
        "seed": int(rng.integers(2**32)),
        "volume_mm3": float(np.exp(rng.uniform(low, high))),
        "native_mm3_per_mm3": config.native_mm3_per_mm3,
        "rotation_deg": tuple(rng.uniform(-180, 180, 3).tolist()),
    }
    drawn |= {"pathology": pathology, "role": role, "modality": config.modality}
    return drawn | sample_appearance(rng, config, pathology, float(str(drawn["volume_mm3"])))


def _draw(rng: np.random.Generator, shares: Mapping[_Name, float]) -> _Name:
    """Choose a name by its share; a single one costs no random number."""
    names = list(shares)
    if len(names) == 1:
        return names[0]
    weights = np.array([shares[name] for name in names])
    return names[int(rng.choice(len(names), p=weights / weights.sum()))]


def _draw_kind(rng: np.random.Generator, config: LesionConfig, pathology: Pathology) -> LesionKind:
    draw = float(rng.random())
    if draw < config.mask_share:
        return "mask"
    if pathology == "white_matter":
        return "foci"
    return "field" if draw < config.mask_share + config.field_share else "ellipsoid"


class RandLesiond(MapTransform, Randomizable):
    """Put a random lesion into each volume and add its mask and spec.

    Adds `key_lesion` (1, x, y, z), a float mask, and `key_lesion_spec`, the spec as JSON.

    Parameters
    ----------
    keys : sequence of str
        Entries holding a `MetaTensor` (C, x, y, z), background 0, in template space.
    config : LesionConfig
        Ranges.
    mask_library : LesionMaskLibrary, optional
        Needed where `config.mask_share` is positive.
    """

    def __init__(
        self,
        keys: str | tuple[str, ...] | list[str],
        config: LesionConfig,
        *,
        mask_library: LesionMaskLibrary | None = None,
    ) -> None:
        super().__init__(keys)
        self.R = np.random.RandomState()  # the base class shares one state among all transforms
        self.config = config
        self.mask_library = mask_library
        self._specs: dict[Hashable, LesionSpec] = {}

    def randomize(self, data: Mapping[Hashable, object]) -> None:
        """Draw one spec for each key from `self.R`."""
        self._specs = {}
        for key in self.key_iterator(data):
            rng = np.random.default_rng(int(self.R.randint(2**32, dtype=np.int64)))
            _, brain, affine = _volume_parts(data[key])
            self._specs[key] = sample_lesion(
                rng, self.config, brain, affine, mask_library=self.mask_library
            )

    def __call__(self, data: Mapping[Hashable, object]) -> dict[Hashable, object]:
        """Inject; the given dictionary and its volumes are left as they are."""
        self.randomize(data)
        result: dict[Hashable, object] = dict(data)
        for key, spec in self._specs.items():
            volume, brain, affine = _volume_parts(data[key])
            lesioned, mask = inject_lesion(
                volume.numpy(), affine, spec, brain, mask_library=self.mask_library
            )
            channels = torch.from_numpy(mask[None].astype(np.float32))
            result[key] = MetaTensor(torch.from_numpy(lesioned), meta=volume.meta)
            result[f"{key}_lesion"] = MetaTensor(channels, affine=volume.affine)
            result[f"{key}_lesion_spec"] = spec.model_dump_json()
        return result


def _volume_parts(volume: object) -> tuple[MetaTensor, Mask, Affine]:
    if not isinstance(volume, MetaTensor):
        msg = f"a volume must be a MetaTensor with an affine, got {type(volume).__name__}"
        raise TypeError(msg)
    return volume, (volume[0].numpy() != 0), np.asarray(volume.affine, dtype=np.float64)
