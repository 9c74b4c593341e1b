"""Draw random lesions for a brain."""

import json
from collections.abc import Hashable, Mapping
from typing import TypeVar

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from monai.config.type_definitions import KeysCollection
from monai.data.meta_tensor import MetaTensor
from monai.transforms.transform import MapTransform, Randomizable
from scipy import ndimage

from hemitwin._shapes import Affine, Mask
from hemitwin.transforms.entries import mask_entry, volume_entry, with_values
from hemitwin.transforms.hemispheres import require_centred
from hemitwin.transforms.lesions.appearance import sample_appearance
from hemitwin.transforms.lesions.box import lesion_offsets, share_inside, side_mask
from hemitwin.transforms.lesions.config import LesionConfig
from hemitwin.transforms.lesions.injection import inject_lesion
from hemitwin.transforms.lesions.mask_library import LesionMaskLibrary
from hemitwin.transforms.lesions.spec import SIDES, LesionKind, LesionSpec, Pathology, Side

__all__ = ["RandLesionsd", "sample_lesion"]

_TRIES = 100
_SHAPES = 3
_DEEP_MM = 24.0
_DEEP_SHARE = 0.95
_MOST_LABELS = 255
_SEVERAL = 0.5
"""Share of the draws that have several lesions, where they may."""
_NATIVE_KEY = "native_mm3_per_mm3"
_NO_LIBRARY = "mask_share > 0 must come with a mask library, got none; pass it or set 0"
_Name = TypeVar("_Name", bound=str)


def sample_lesion(
    rng: np.random.Generator,
    config: LesionConfig,
    brain_mask: Mask,
    affine: Affine,
    *,
    side: Side | None = None,
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
    chosen = side or SIDES[int(rng.integers(2))]
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
        raise ValueError(_NO_LIBRARY)
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


class RandLesionsd(MapTransform, Randomizable):
    """Put one or several random lesions into each volume, and add their labels and specs.

    Sides take turns, and no two lesions lie in one place or in mirrored places. There are fewer
    than were drawn where there is no room for more.

    Adds `key_lesions`, a `MetaTensor` (1, x, y, z) uint8: n where the n-th lesion is, 0 elsewhere
    and where a control or a sham is, or another that is not abnormal (`LesionSpec.is_abnormal`).
    Adds `key_lesion_specs`, a JSON list of all that were put in, as one string: MONAI's loaders
    batch strings, but no lists of different lengths.

    Parameters
    ----------
    keys : collection of hashable
        Entries holding a `MetaTensor` (C, x, y, z), background 0, in template space. Each has
        lesions of its own, which all of its channels show. An entry ``native_mm3_per_mm3`` stands
        in for the configuration's where there is one: it is the subject's at hand.
    config : LesionConfig
        Ranges.
    most : int
        Half of the draws have one lesion, and the other half from two to so many; at most 255.
        More than one ask for a grid that has x = 0 at its centre.
    side : 'L' or 'R', optional
        Of the first one; drawn where not given.
    mask_key : hashable, optional
        Entry of the brain, (1, x, y, z) bool: where lesions may be. By default where the volume's
        first channel is not 0.
    mask_library : LesionMaskLibrary, optional
        Needed where `config.mask_share` is positive.

    Raises
    ------
    ValueError
        `most` or `side` is out of range, or real masks are asked for without a library.

    Examples
    --------
    >>> affine = np.diag([4.0, 4.0, 4.0, 1.0])
    >>> affine[:3, 3] = -58.0
    >>> radius_mm = np.linalg.norm(4.0 * np.indices((1, 30, 30, 30))[1:] - 58.0, axis=0)
    >>> image = MetaTensor((torch.from_numpy(radius_mm) < 56).float(), affine=affine)
    >>> lesions = RandLesionsd("image", LesionConfig(), most=3, side="L").set_random_state(seed=3)
    >>> changed = lesions({"image": image})
    >>> changed["image_lesions"].unique().tolist()
    [0, 1, 2, 3]
    >>> [LesionSpec(**spec).side for spec in json.loads(changed["image_lesion_specs"])]
    ['L', 'R', 'L']
    """

    def __init__(
        self,
        keys: KeysCollection,
        config: LesionConfig,
        *,
        most: int = 1,
        side: Side | None = None,
        mask_key: Hashable | None = None,
        mask_library: LesionMaskLibrary | None = None,
    ) -> None:
        super().__init__(keys)
        if not 1 <= most <= _MOST_LABELS:
            msg = f"most must be from 1 to {_MOST_LABELS}, got {most}; labels have 8 bits"
            raise ValueError(msg)
        if side not in {None, *SIDES}:
            msg = f"side must be 'L' or 'R', or None to draw it, got {side!r}"
            raise ValueError(msg)
        if config.mask_share > 0 and mask_library is None:
            raise ValueError(_NO_LIBRARY)
        self.R = np.random.RandomState()  # the base class shares one state among all transforms
        self.config = config
        self.most = most
        self.side = side
        self.mask_key = mask_key
        self.mask_library = mask_library
        self._seeds: dict[Hashable, int] = {}

    def randomize(self, data: Mapping[Hashable, object]) -> None:
        """Draw one seed for each key from `self.R`; it decides the key's lesions."""
        self._seeds = {
            key: int(self.R.randint(2**32, dtype=np.int64)) for key in self.key_iterator(data)
        }

    def __call__(self, data: Mapping[Hashable, object]) -> dict[Hashable, object]:
        """Put lesions in; the given dictionary and its volumes are left as they are.

        Raises
        ------
        KeyError, TypeError, ValueError
            As `volume_entry` and `mask_entry` say; there is no room for the first lesion; or
            there may be several, and the grid's centre is not x = 0.
        """
        self.randomize(data)
        result: dict[Hashable, object] = dict(data)
        for key, seed in self._seeds.items():
            volume = volume_entry(data, key)
            brain = volume.as_tensor()[0] != 0
            if self.mask_key is not None:
                brain = mask_entry(data, self.mask_key, volume)
            config = self.config
            if _NATIVE_KEY in data:
                config = config.model_copy(update={_NATIVE_KEY: _positive(data[_NATIVE_KEY])})
            rng = np.random.default_rng(seed)
            lesioned, labels, specs = self._inject(rng, config, volume, brain.numpy())
            result[key] = with_values(volume, torch.from_numpy(lesioned))
            result[f"{key}_lesions"] = with_values(volume, torch.from_numpy(labels[None]))
            content = [spec.model_dump(mode="json") for spec in specs]
            result[f"{key}_lesion_specs"] = json.dumps(content)
        return result

    def _inject(
        self, rng: np.random.Generator, config: LesionConfig, entry: MetaTensor, brain: Mask
    ) -> tuple[Float[np.ndarray, "c x y z"], UInt8[np.ndarray, "x y z"], list[LesionSpec]]:
        volume, affine = entry.as_tensor().numpy(), np.asarray(entry.affine, dtype=np.float64)
        if self.most > 1:
            require_centred(len(brain), affine)
        first = SIDES.index(self.side) if self.side else int(rng.integers(2))
        several = self.most > 1 and rng.random() < _SEVERAL
        free, labels = brain, np.zeros(brain.shape, dtype=np.uint8)
        specs: list[LesionSpec] = []
        for number in range(int(rng.integers(2, self.most + 1)) if several else 1):
            side, library = SIDES[(first + number) % 2], self.mask_library
            try:
                spec = sample_lesion(rng, config, free, affine, side=side, mask_library=library)
                # A spec may reach out of its room a little: what is taken stays as it is.
                volume, mask = inject_lesion(volume, affine, spec, free, mask_library=library)
            except ValueError:
                if number == 0:
                    raise
                break
            specs.append(spec)
            if spec.is_abnormal:
                labels[mask] = number + 1
            free = free & ~(mask | mask[::-1])
        return volume, labels, specs


def _positive(scale: object) -> float:
    value = float(np.asarray(scale, dtype=np.float64))
    if not value > 0:
        msg = f"{_NATIVE_KEY} must be positive, got {value}; it is the affine's determinant"
        raise ValueError(msg)
    return value
