"""Put a lesion into a volume, with the exact mask."""

import numpy as np
from jaxtyping import Bool, Float
from scipy import ndimage

from hemitwin._shapes import Affine, Grid, Mask
from hemitwin.transforms.hemispheres import mirror_affine
from hemitwin.transforms.lesions.box import LesionBox, lesion_box, side_mask
from hemitwin.transforms.lesions.field import lesion_texture
from hemitwin.transforms.lesions.mask_library import LesionMaskLibrary
from hemitwin.transforms.lesions.mass_effect import push_tissue, pushed_box
from hemitwin.transforms.lesions.spec import LesionSpec
from hemitwin.transforms.lesions.tissue import (
    deep_white_matter,
    local_mean,
    measure_texture,
    white_matter_limits,
)

__all__ = ["inject_lesion", "lesion_support"]

_NARROWEST_MM = 8.0
_OEDEMA_LEAK = 0.15  # of the oedema's strength is seen outside white matter


def inject_lesion(
    volume: Float[np.ndarray, " *c x y z"],
    affine: Affine,
    spec: LesionSpec,
    brain_mask: Mask,
    *,
    mask_library: LesionMaskLibrary | None = None,
) -> tuple[Float[np.ndarray, " *c x y z"], Mask]:
    """Put a lesion into a volume.

    Tissue is displaced first, where the lesion has a mass effect. Then v becomes
    v + sum over layers of w (t (1 + contrast + texture noise) - v), where w is how much of the
    layer is in a voxel and t is the tissue, its pattern lost to its local mean as far as the
    layer's `replacement` says. (Without layers and replacement: v (1 + alpha (contrast + texture
    noise)).) Texture belongs to contrast: a lesion none of whose layers has contrast changes no
    brightness, whatever its texture, and without mass effect returns the volume bit for bit.

    A control is rendered with contrast 0 and with the blur of the displacement, but no
    displacement. A sham is the lesion and its mirror image about x = 0.

    Parameters
    ----------
    volume : (x, y, z) or (c, x, y, z) float
        Not changed. White matter is told by the first channel.
    affine : (4, 4)
        Voxel index to template RAS+ millimetres.
    spec : LesionSpec
        The lesion; the same one on every grid.
    brain_mask : (x, y, z) bool
        The lesion stays inside it and on its side. Nothing is written outside it and nothing
        drawn in from there: background stays as it is.
    mask_library : LesionMaskLibrary, optional
        Needed for kind 'mask'.

    Returns
    -------
    lesioned : same shape and dtype as `volume`
        Equal to `volume` bit for bit outside `lesion_support`: outside `mask` where the lesion
        has no mass effect.
    mask : (x, y, z) bool
        Where alpha > 0 (for a sham: on both sides).

    Raises
    ------
    ValueError
        If the lesion does not fit, its mask is not to be had, or a sham's grid is not symmetric
        about x = 0.
    """
    lesioned = volume.copy()
    if spec.role != "sham":
        return lesioned, _inject_one(lesioned, affine, spec, brain_mask, mask_library)
    both = _symmetric_brain(brain_mask, affine)
    # Reversing indices is exact, as interpolation is not. Each side is made from the volume as it
    # was: what surrounds one lesion must not hold the other.
    mirrored = np.ascontiguousarray(volume[..., ::-1, :, :])
    mask = _inject_one(lesioned, affine, spec, both, mask_library)
    other = _inject_one(mirrored, affine, spec, both, mask_library)
    x_mm = affine[0, 0] * np.arange(len(mask)) + affine[0, 3]
    across = (x_mm > 0) if spec.side == "L" else (x_mm < 0)
    lesioned[..., across, :, :] = mirrored[..., ::-1, :, :][..., across, :, :]
    return lesioned, mask | other[::-1]


def lesion_support(
    affine: Affine,
    spec: LesionSpec,
    mask: Mask,
    brain_mask: Mask,
) -> Mask:
    """Return where `inject_lesion` may have changed anything: lesion and displaced tissue.

    Parameters
    ----------
    affine : (4, 4)
        Voxel index to template RAS+ millimetres.
    spec : LesionSpec
        The lesion.
    mask : (x, y, z) bool
        As `inject_lesion` returned it.
    brain_mask : (x, y, z) bool
        As it was given to `inject_lesion`.

    Returns
    -------
    (x, y, z) bool
    """
    effect = spec.mass_effect
    if effect is None:
        return mask.copy()
    brain = _symmetric_brain(brain_mask, affine) if spec.role == "sham" else brain_mask
    push = pushed_box(effect, affine, side_mask(brain, affine, spec.side))
    moved = np.zeros_like(mask)
    moved[push.box] = push.moved
    return np.asarray(mask | moved | (moved[::-1] if spec.role == "sham" else False))


def _symmetric_brain(brain_mask: Mask, affine: Affine) -> Mask:
    """Return where both halves have brain, on a grid that is its own mirror image."""
    width = len(brain_mask)
    if not np.allclose(np.diag([-1.0, 1, 1, 1]) @ mirror_affine(affine, width), affine):
        msg = (
            f"a sham must be made on a grid that is symmetric about x = 0, got {affine.tolist()} "
            f"with {width} columns; resample to the template grid first"
        )
        raise ValueError(msg)
    return np.asarray(brain_mask & brain_mask[::-1])


def _inject_one(
    volume: Float[np.ndarray, " *c x y z"],
    affine: Affine,
    spec: LesionSpec,
    brain_mask: Mask,
    library: LesionMaskLibrary | None,
) -> Mask:
    """Change `volume` in place, on one side; return the mask."""
    channels = volume[None] if volume.ndim == 3 else volume
    limits = (-np.inf, np.inf)
    if spec.in_white_matter or (spec.shell and spec.shell.follows_white_matter):
        limits = white_matter_limits(channels[0], brain_mask, spec.modality)
    room = brain_mask
    if spec.in_white_matter:
        room = deep_white_matter(channels[0], brain_mask, limits)
    lesion = lesion_box(affine, spec, room, mask_library=library)
    mask = np.zeros(brain_mask.shape, dtype=bool)
    mask[lesion.box] = lesion.alpha > 0
    if spec.mass_effect:
        push = pushed_box(spec.mass_effect, affine, side_mask(brain_mask, affine, spec.side))
        for data in channels:
            data[push.box] = push_tissue(data, brain_mask, push, still=spec.role == "control")
    if spec.role != "control" and not spec.has_contrast:
        return mask
    first = channels[0][lesion.box]
    white = brain_mask[lesion.box] & (first > limits[0]) & (first <= limits[1])
    for data in channels:
        if _is_plain(spec):
            _scale(data, affine, spec, lesion)
        else:
            _paint(data, affine, spec, lesion, brain_mask, white)
    return mask


def _is_plain(spec: LesionSpec) -> bool:
    measured = spec.texture_from != "spec" or spec.contrast_from != "spec"
    return not (spec.shell or spec.centre or spec.replacement or measured)


def _scale(data: Grid, affine: Affine, spec: LesionSpec, lesion: LesionBox) -> None:
    held = lesion.alpha > 0
    contrast = 0.0 if spec.role == "control" else spec.contrast
    change = contrast + spec.texture * lesion_texture(_points(affine, lesion, held), spec)
    part = data[lesion.box]
    factor = np.maximum(1 + lesion.alpha[held] * change, 0)
    part[held] = (part[held] * factor).astype(data.dtype)


def _paint(
    data: Grid,
    affine: Affine,
    spec: LesionSpec,
    lesion: LesionBox,
    brain_mask: Mask,
    white: Bool[np.ndarray, " bx by bz"],
) -> None:
    held = lesion.alpha > 0
    mean, noise, unit = _local_tissue(data, affine, spec, lesion, brain_mask)
    own = data[lesion.box][held]
    painted = own.astype(np.float64)
    for weight, contrast, replacement in _layers(spec, lesion, white):
        tissue = own + replacement * (mean - own)
        lost = 1.0 if spec.texture_from == "spec" else replacement
        change = (0.0 if spec.role == "control" else contrast * unit) + lost * noise
        painted += weight * (tissue * np.maximum(1 + change, 0) - own)
    data[lesion.box][held] = painted.astype(data.dtype)


def _layers(
    spec: LesionSpec, lesion: LesionBox, white: Bool[np.ndarray, " bx by bz"]
) -> list[tuple[Float[np.ndarray, " n"], float, float]]:
    """Return weights, contrast and replacement of core, centre and shell where there is lesion."""
    held = lesion.alpha > 0
    alpha, core, centre = (part[held] for part in (lesion.alpha, lesion.core, lesion.centre))
    layers = [(core - centre, spec.contrast, spec.replacement)]
    if spec.centre:
        layers.append((centre, spec.centre.contrast, spec.centre.replacement))
    if spec.shell:
        weight = alpha - core
        if spec.shell.follows_white_matter:
            near = ndimage.uniform_filter(white.astype(np.float32), 3)[held]
            weight = weight * (_OEDEMA_LEAK + (1 - _OEDEMA_LEAK) * near)
        layers.append((weight, spec.shell.contrast, spec.shell.replacement))
    return layers


def _local_tissue(
    data: Grid, affine: Affine, spec: LesionSpec, lesion: LesionBox, brain_mask: Mask
) -> tuple[Float[np.ndarray, " n"], Float[np.ndarray, " n"], float]:
    """Return the tissue's mean and texture where there is lesion, and the contrast's unit."""
    held = lesion.alpha > 0
    width_mm = max(_NARROWEST_MM, spec.mean_radius_mm)
    outer, inner = _padded(lesion, affine, width_mm / 2, data.shape)
    brain = brain_mask[outer]
    mean = local_mean(data[outer], brain, affine, width_mm)
    texture, unit, points = spec.texture, 1.0, _points(affine, lesion, held)
    if "surroundings" in {spec.texture_from, spec.contrast_from}:
        around = brain.copy()
        around[inner] &= ~held
        measured = measure_texture(data[outer], mean, around, affine)
        if spec.contrast_from == "surroundings":
            unit = measured.sd
        if spec.texture_from == "surroundings":
            texture = spec.texture * measured.sd
            spec = spec.model_copy(update={"texture_mm": measured.grain_mm})
    return mean[inner][held], texture * lesion_texture(points, spec), unit


def _padded(
    lesion: LesionBox, affine: Affine, margin_mm: float, shape: tuple[int, ...]
) -> tuple[tuple[slice, ...], tuple[slice, ...]]:
    """Return the box with a margin, and where the box lies in it."""
    margins = np.ceil(margin_mm / np.linalg.norm(affine[:3, :3], axis=0)).astype(int)
    outer, inner = [], []
    for part, margin, length in zip(lesion.box, margins, shape, strict=True):
        start = max(part.start - int(margin), 0)
        outer.append(slice(start, min(part.stop + int(margin), length)))
        inner.append(slice(part.start - start, part.stop - start))
    return tuple(outer), tuple(inner)


def _points(affine: Affine, lesion: LesionBox, held: Mask) -> Float[np.ndarray, "3 n"]:
    start = np.array([part.start for part in lesion.box]).reshape(3, 1)
    return np.asarray(affine[:3, :3] @ (np.argwhere(held).T + start) + affine[:3, 3:])
