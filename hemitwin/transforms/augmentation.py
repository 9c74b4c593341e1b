"""Augmentation that favours no hemisphere: motion and gain are shared; noise and bends are not."""

# mypy: disallow-untyped-calls=False
# MONAI's constructors are not annotated throughout.
from collections.abc import Hashable, Mapping
from typing import Literal

import numpy as np
import torch
from jaxtyping import Bool, Float
from monai.config.type_definitions import KeysCollection
from monai.data.meta_tensor import MetaTensor
from monai.transforms.intensity.array import RandBiasField, RandGaussianNoise
from monai.transforms.spatial.array import RandAffine, RandFlip
from monai.transforms.transform import MapTransform, Randomizable, RandomizableTransform
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from hemitwin._frozen import Frozen
from hemitwin._shapes import Volume
from hemitwin.transforms.entries import mask_entry, volume_entry, with_values

__all__ = ["AugmentationConfig", "Comparison", "RandAugmentBraind", "RandElastic"]

Comparison = Literal["hemispheres", "brains"]
"""What a task compares: the halves of one brain, or two brains."""

_Inside = Bool[Tensor, " x y z"]

_POINTS_MM = {40.0: 1.0, 20.0: 0.5}
"""Distance of the points that a displacement is drawn at, and its share there."""
_MIDPLANE_MM = 20.0
_WHY_NO_FLIP: dict[Comparison, str | None] = {
    # A mirrored brain is the same pair with its halves exchanged, and scores are swap-symmetric.
    "hemispheres": None,
    "brains": "two brains are compared as they lie, and which side is the larger, stronger or "
    "diseased one belongs to what they may share",
}


class AugmentationConfig(Frozen):
    """How strongly brains are changed at random in training; 0 leaves a change out."""

    rotation_deg: float = Field(
        default=0.0,
        ge=0,
        le=45,
        description="Largest rotation about the left-right axis, either way (nodding).",
    )
    shift_mm: float = Field(
        default=0.0, ge=0, description="Largest shift to front or back, and up or down, in mm."
    )
    scaling: float = Field(
        default=0.0,
        ge=0,
        lt=0.5,
        description="Largest change of each axis's scale; 0.1 is 10 per cent.",
    )
    elastic_mm: float = Field(
        default=0.0,
        ge=0,
        description="Largest SD of a smooth random displacement that both halves share.",
    )
    own_elastic_mm: float = Field(
        default=0.0,
        ge=0,
        description="Halves: largest SD of one that each half has for itself: no two people's "
        "halves differ alike, and a network that knows all its training brains learns nothing.",
    )
    bias_field: float = Field(
        default=0.0,
        ge=0,
        description="Largest coefficient of the log of a smooth intensity field (Legendre "
        "polynomials of third degree).",
    )
    noise: float = Field(
        default=0.0,
        ge=0,
        description="Largest SD of added Gaussian noise; the brain's values lie about 0 to 1.",
    )
    flip_left_right: bool = Field(
        default=False,
        description="Mirror every second brain; only where the task is invariant to it.",
    )


class RandAugmentBraind(MapTransform, Randomizable):
    """Change a whole brain at random, favouring neither half.

    First comes contrast: one gamma, whose logarithm is normal.

    Motions are those that commute with mirroring at the mid-plane: rotation about x, shifts along
    y and z, and scales. Roll, yaw and shifts along x would tear the mid-plane from the grid's
    centre and stand for an asymmetry in every voxel. Fields of intensity are drawn for one half
    and mirrored onto the other: they are smooth, and one that differed between the halves would
    teach the network to overlook smooth differences, which lesions are too. Noise is drawn anew
    in every voxel of the whole brain, as a scanner's is: mirrored noise would cancel in the
    comparison of the halves and teach nothing. The brain is changed before it is split, so that
    both halves go through the same interpolation.

    What halves without lesions differ by is shape, above all. `own_elastic_mm` gives a brain other
    such differences at each draw, by a smooth displacement of its own for each half; it must stay
    within what people's halves differ by, or the network learns to overlook displaced tissue.

    The transforms are MONAI's, and `RandElastic`, which is made as they are.

    Parameters
    ----------
    keys : collection of hashable
        Entries holding a `MetaTensor` (C, X, Y, Z) float32: volumes of one brain on one grid, 0
        outside it and not below 0; x = 0 at the centre of the first axis. All are changed alike,
        but for noise.
    config : AugmentationConfig
        How strongly.
    mask_key : hashable
        Entry of the brain, (1, X, Y, Z) bool; it moves with it.
    voxel_mm : float
        Edge of the cubic voxels.
    comparison : {"hemispheres", "brains"}
        What the task compares.
    gamma_sd : float
        SD of the logarithm of the gamma.

    Raises
    ------
    ValueError
        A flip is asked for and the task is not invariant to it, or displacements of each half's
        own where brains are compared; or `gamma_sd` is negative.

    Examples
    --------
    >>> nod = RandAugmentBraind(
    ...     "image", AugmentationConfig(rotation_deg=10.0), voxel_mm=4.0, comparison="hemispheres"
    ... ).set_random_state(seed=0)
    >>> brain = {"image": MetaTensor(torch.ones(1, 4, 6, 6)), "mask": torch.ones(1, 4, 6, 6) > 0}
    >>> moved = nod(brain)
    >>> bool((moved["image"] == moved["image"].flip(1)).all())
    True
    """

    def __init__(
        self,
        keys: KeysCollection,
        config: AugmentationConfig,
        *,
        mask_key: Hashable = "mask",
        voxel_mm: float,
        comparison: Comparison,
        gamma_sd: float = 0.0,
    ) -> None:
        super().__init__(keys)
        _require_fitting(config, comparison, gamma_sd)
        self.R = np.random.RandomState()  # the base class shares one state among all transforms
        self.mask_key = mask_key
        self.gamma_sd = gamma_sd
        self._gamma = 1.0
        turn, shift = np.deg2rad(config.rotation_deg), config.shift_mm / voxel_mm
        motion = RandAffine(
            prob=1.0,
            rotate_range=(turn, 0.0, 0.0),
            translate_range=(0.0, shift, shift),
            scale_range=(config.scaling,) * 3,
            padding_mode="zeros",
        )
        moves = config.rotation_deg or config.shift_mm or config.scaling
        self._motion = motion if moves else None
        elastic = RandElastic(config.elastic_mm, config.own_elastic_mm, voxel_mm=voxel_mm)
        self._elastic = elastic if config.elastic_mm or config.own_elastic_mm else None
        limits = (-config.bias_field, config.bias_field)
        self._gain = RandBiasField(prob=1.0, coeff_range=limits) if config.bias_field else None
        self._noise = RandGaussianNoise(prob=1.0, std=config.noise) if config.noise else None
        self._flip = RandFlip(prob=0.5, spatial_axis=0) if config.flip_left_right else None

    def randomize(self, data: object = None) -> None:
        """Draw the gamma and a state for each transform from `self.R`."""
        del data  # nothing depends on it
        self._gamma = float(np.exp(self.gamma_sd * self.R.normal()))
        for step in (self._motion, self._elastic, self._gain, self._noise, self._flip):
            # Drawn for those that are left out too: what one does depends on no other's strength.
            state = int(self.R.randint(2**32, dtype=np.int64))
            if step is not None:
                step.set_random_state(seed=state)

    def __call__(self, data: Mapping[Hashable, object]) -> dict[Hashable, object]:
        """Return a changed brain; the given dictionary and its volumes are left as they are.

        Returns
        -------
        dict
            The volumes, float32, not below 0 and 0 outside the new mask; the mask; and what else
            was given.

        Raises
        ------
        KeyError, TypeError, ValueError
            As `volume_entry` and `mask_entry` say, or a volume has values below 0.
        """
        self.randomize(data)
        result = dict(data)
        volumes = {key: volume_entry(data, key) for key in self.key_iterator(result)}
        mask = mask_entry(data, self.mask_key, next(iter(volumes.values())))
        changed, inside = self._changed(_joined(volumes), mask)
        parts = changed.split([len(volume) for volume in volumes.values()])
        for (key, volume), part in zip(volumes.items(), parts, strict=True):
            result[key] = with_values(volume, part)
        result[self.mask_key] = with_values(data[self.mask_key], inside[None])
        return result

    def _changed(self, volume: Volume, mask: _Inside) -> tuple[Volume, _Inside]:
        if self.gamma_sd:
            volume = volume**self._gamma
        if self._motion is not None:
            volume, mask = _moved(self._motion, volume, mask)
        if self._elastic is not None:
            volume, mask = _moved(self._elastic, volume, mask)
        if self._gain is not None:
            half = (1, (mask.shape[0] + 1) // 2, *mask.shape[1:])
            volume = volume * _mirrored(self._gain(torch.ones(half)), mask.shape[0])
        if self._noise is not None:
            noisy = volume + _plain(self._noise(torch.zeros_like(volume)))
            volume = torch.where(mask, noisy.clamp(min=0), 0.0)
        if self._flip is not None:
            volume, mask = _flipped(self._flip, volume, mask)
        return volume, mask


def _require_fitting(config: AugmentationConfig, comparison: Comparison, gamma_sd: float) -> None:
    reason = _WHY_NO_FLIP[comparison]
    if config.flip_left_right and reason is not None:
        msg = (
            f"flip_left_right must be false where {comparison} are compared, got true: "
            f"{reason}; leave it out"
        )
        raise ValueError(msg)
    if config.own_elastic_mm and comparison == "brains":
        msg = (
            f"own_elastic_mm must be 0 where brains are compared, got "
            f"{config.own_elastic_mm}: what their shapes differ by is what is asked for; "
            f"take elastic_mm"
        )
        raise ValueError(msg)
    if gamma_sd < 0:
        msg = f"gamma_sd must be 0 or more, got {gamma_sd}; signs are drawn"
        raise ValueError(msg)


def _joined(volumes: Mapping[Hashable, MetaTensor]) -> Volume:
    """Return all channels of one brain, as they are changed together."""
    grids = {tuple(volume.shape[1:]) for volume in volumes.values()}
    if len(grids) > 1:
        msg = f"volumes of one brain must lie on one grid, got {sorted(grids)}; resample them"
        raise ValueError(msg)
    plain = [volume.as_tensor() for volume in volumes.values()]
    joined = plain[0] if len(plain) == 1 else torch.cat(plain)
    lowest = float(joined.min())
    if lowest < 0:
        msg = (
            f"{', '.join(map(str, volumes))} must not be below 0, got {lowest:g}: 0 is the "
            f"background, and powers are taken; scale them first (robust_scale)"
        )
        raise ValueError(msg)
    return joined


class RandElastic(RandomizableTransform):
    """Displace a brain at random and smoothly, both halves alike or each in its own way.

    Displacements are drawn at points 40 mm apart, and again, half as large, 20 mm apart, and are
    linear between them; how large they are is drawn for each brain. Nothing crosses the mid-plane:
    the displacement across it falls to nothing within 20 mm.

    Parameters
    ----------
    shared_mm, own_mm : float
        Largest SD of what both halves share, and of what each has for itself.
    voxel_mm : float
        Edge of the cubic voxels.
    prob : float
        Share of the brains that are displaced: interpolation takes detail away, which no brain
        that is tested has lost.

    Examples
    --------
    >>> bend = RandElastic(4.0, 0.0, voxel_mm=4.0, prob=1.0).set_random_state(seed=0)
    >>> volume = torch.rand(1, 6, 8, 7)
    >>> volume = torch.cat((volume, volume.flip(1)), dim=1)
    >>> bent = bend(volume)
    >>> bool(torch.allclose(bent, bent.flip(1), atol=1e-5)), bool((bent != volume).any())
    (True, True)
    """

    def __init__(
        self, shared_mm: float, own_mm: float, *, voxel_mm: float, prob: float = 0.8
    ) -> None:
        RandomizableTransform.__init__(self, prob)
        self._largest = (shared_mm, own_mm)
        self._voxel_mm = voxel_mm

    def __call__(self, volume: Volume) -> Volume:
        """Return the displaced brain; the given one is left as it is.

        Parameters
        ----------
        volume : (C, X, Y, Z) float32
            x = 0 at the centre of the first axis.
        """
        self.randomize(None)
        if not self._do_transform:
            return volume
        shape = tuple(volume.shape[1:])
        width, half = shape[0], (shape[0] + 1) // 2
        shared, own = (self.R.uniform(0, largest) for largest in self._largest)
        one = self._field((half, *shape[1:])) * shared
        mirrored = one.flip(1) * torch.tensor([-1.0, 1.0, 1.0]).reshape(3, 1, 1, 1)
        field = torch.cat((one, mirrored[:, width % 2 :]), dim=1) + self._field(shape) * own
        away = (torch.arange(width) - (width - 1) / 2).abs() * self._voxel_mm / _MIDPLANE_MM
        field[0] *= away.clamp(max=1).reshape(-1, 1, 1)
        return _displaced(volume, field / self._voxel_mm)

    def _field(self, shape: tuple[int, ...]) -> Float[Tensor, "3 x y z"]:
        """Draw a smooth displacement, of about unit SD along each axis."""
        whole = torch.zeros(3, *shape)
        for spacing, share in _POINTS_MM.items():
            points = [max(2, round(n * self._voxel_mm / spacing) + 1) for n in shape]
            drawn = torch.from_numpy(self.R.normal(0, share, (1, 3, *points))).float()
            whole += F.interpolate(drawn, size=shape, mode="trilinear", align_corners=True)[0]
        return whole


def _displaced(volume: Volume, voxels: Float[Tensor, "3 x y z"]) -> Volume:
    """Look each voxel's value up so many voxels away."""
    shape = volume.shape[1:]
    axes = [torch.linspace(-1, 1, n) for n in shape]
    unit = torch.tensor([2 / (n - 1) for n in shape]).reshape(3, 1, 1, 1)
    place = torch.stack(torch.meshgrid(*axes, indexing="ij")) + voxels * unit
    grid = place.flip(0).permute(1, 2, 3, 0)[None]  # x fastest, as torch wants it
    return F.grid_sample(volume[None], grid, mode="bilinear", align_corners=True)[0]


def _moved(
    motion: RandAffine | RandElastic, volume: Volume, mask: _Inside
) -> tuple[Volume, _Inside]:
    *moved, inside = _plain(motion(torch.cat((volume, mask[None].float()))))
    kept = inside >= 0.5
    # Dividing by the brain's share keeps the background from darkening the brain's edge.
    return torch.where(kept, torch.stack(moved) / inside.clamp(min=0.5), 0.0), kept


def _flipped(flip: RandFlip, volume: Volume, mask: _Inside) -> tuple[Volume, _Inside]:
    both = _plain(flip(torch.cat((volume, mask[None].to(volume.dtype)))))
    return both[:-1], both[-1] > 0


def _mirrored(half: Tensor | np.ndarray, width: int) -> Tensor:
    """Make a field over one half (with the middle column, if there is one) one over the brain."""
    plain = _plain(half)
    return torch.cat((plain, plain.flip(1)[:, width % 2 :]), dim=1)


def _plain(image: Tensor | np.ndarray) -> Tensor:
    """Take MONAI's metadata off."""
    plain: Tensor = torch.as_tensor(image).as_subclass(torch.Tensor)
    return plain
