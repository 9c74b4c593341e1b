"""Shapes of a known area drawn into one half of a slice: asymmetries for 2D training."""

import math

import numpy as np
from jaxtyping import Bool, Float, Shaped
from pydantic import Field, field_validator, model_validator
from scipy import ndimage

from hemitwin._frozen import Frozen
from hemitwin._names import Shape

__all__ = ["ShapeConfig", "ShapeSpec", "draw_shape", "sample_shape"]

Wave = tuple[float, float]
PixelMask = Bool[np.ndarray, " rows columns"]

_WAVES = (2, 3, 4)
_WAVE = 0.12  # of the radius, at most, for each wave of a blob's outline
_EDGE = 0.5  # of a blob's radius, over which it fades


class ShapeSpec(Frozen):
    """One shape: all that `draw_shape` needs beside the picture."""

    shape: Shape = Field(
        description="circle or square of one grey, or textured: a blob with a smooth edge."
    )
    centre_px: tuple[float, float] = Field(
        description="Row and column; whole numbers are centres of pixels."
    )
    area_mm2: float = Field(gt=0, description="Area on the picture, to the nearest pixel.")
    grey: float | None = Field(
        default=None, ge=0, le=255, description="Of circle and square: black is 0, white 255."
    )
    contrast: float | None = Field(
        default=None, gt=-1, description="Of textured: what it adds to the grey, as a share."
    )
    waves: tuple[Wave, ...] = Field(
        default=(), description="Of textured: amplitude and phase of the outline's waves."
    )

    @model_validator(mode="after")
    def _has_its_brightness(self) -> "ShapeSpec":
        needed = "contrast" if self.shape == "textured" else "grey"
        if getattr(self, needed) is None:
            msg = f"shape {self.shape!r} must have a {needed}, got none; give it"
            raise ValueError(msg)
        return self


class ShapeConfig(Frozen):
    """Ranges that shapes are drawn from, uniformly.

    The greys are those of SymBrain (Gucciardi et al., doi:10.5281/zenodo.15401010), which puts
    circles or squares of 2 to 40 pixels at 140 to 215 of 255 into slices of newborn brains.
    """

    shapes: tuple[Shape, ...] = Field(
        default=("circle", "square"), min_length=1, description="One of them each time."
    )
    grey: tuple[float, float] = Field(
        default=(140.0, 215.0), description="Of circle and square: black is 0, white 255."
    )
    contrast: tuple[float, float] = Field(
        default=(-0.5, -0.25), description="Of textured: change of the grey, as a share of it."
    )

    @field_validator("grey", "contrast")
    @classmethod
    def _low_first(cls, value: tuple[float, float]) -> tuple[float, float]:
        if value[0] > value[1]:
            msg = f"a range must be (low, high), got {value}; swap them"
            raise ValueError(msg)
        return value


def sample_shape(
    rng: np.random.Generator,
    config: ShapeConfig,
    brain: PixelMask,
    pixel_mm: float,
    *,
    area_mm2: float,
) -> ShapeSpec:
    """Draw a shape that lies wholly inside the brain.

    Parameters
    ----------
    rng : numpy.random.Generator
        All randomness comes from it.
    config : ShapeConfig
        Kinds and ranges.
    brain : (rows, columns) bool
        Of the half that it is for; the picture's border is a border of the brain.
    pixel_mm : float
        Edge of a pixel.
    area_mm2 : float
        Its area; at least one pixel is drawn.

    Returns
    -------
    ShapeSpec

    Raises
    ------
    ValueError
        The brain has no room for it.

    Examples
    --------
    >>> brain = np.ones((9, 9), dtype=bool)
    >>> spec = sample_shape(np.random.default_rng(0), ShapeConfig(), brain, 1.0, area_mm2=4.0)
    >>> drawn, mask = draw_shape(np.zeros((9, 9)), brain, spec, 1.0)
    >>> int(mask.sum()), bool((drawn[mask] == spec.grey).all()), drawn[~mask].any().item()
    (4, True, False)
    """
    shape = config.shapes[int(rng.integers(len(config.shapes)))]
    room = ndimage.distance_transform_edt(np.pad(brain, 1))[1:-1, 1:-1]
    places = np.argwhere(room > _reach_px(shape, _pixels(area_mm2, pixel_mm)))
    if not len(places):
        msg = (
            f"the brain must have room for a {shape} of {area_mm2:g} mm2, but this slice has "
            f"none; ask for a smaller one, or take slices with more brain"
        )
        raise ValueError(msg)
    centre = places[int(rng.integers(len(places)))] + rng.uniform(-0.5, 0.5, 2)
    drawn: dict[str, object] = {"centre_px": tuple(centre.tolist()), "area_mm2": area_mm2}
    if shape == "textured":
        amplitudes = rng.uniform(0, _WAVE, len(_WAVES)).tolist()
        phases = rng.uniform(0, 2 * np.pi, len(_WAVES)).tolist()
        drawn["waves"] = tuple(zip(amplitudes, phases, strict=True))
        drawn["contrast"] = float(rng.uniform(*config.contrast))
    else:
        drawn["grey"] = float(round(rng.uniform(*config.grey)))
    return ShapeSpec.model_validate(drawn | {"shape": shape})


def draw_shape(
    picture: Shaped[np.ndarray, " rows columns"],
    brain: PixelMask,
    spec: ShapeSpec,
    pixel_mm: float,
    *,
    white: float = 255.0,
) -> tuple[Shaped[np.ndarray, " rows columns"], PixelMask]:
    """Draw a shape into a picture.

    A circle is the pixels nearest to its centre, as many as its area has; a square is the
    rectangle of whole pixels that comes nearest to it. A blob is one with a wavy outline: it
    multiplies what is there, so that the texture shows through, and fades over half its radius.

    Parameters
    ----------
    picture : (rows, columns)
        Grey values, of any type. Not changed.
    brain : (rows, columns) bool
        Nothing is drawn outside of it.
    spec : ShapeSpec
        The shape.
    pixel_mm : float
        Edge of a pixel.
    white : float
        The picture's value of white: 255, 65535 or 1.

    Returns
    -------
    picture : (rows, columns)
        Of the same type.
    mask : (rows, columns) bool
        Where the shape is; the picture is unchanged outside of it.
    """
    count = _pixels(spec.area_mm2, pixel_mm)
    values = picture.astype(np.float64)
    if spec.shape == "square":
        mask, strength = _rectangle(picture.shape, spec, count), np.ones(picture.shape)
    else:
        mask, strength = _blob(picture.shape, spec, count)
    mask &= brain
    if spec.grey is not None:
        values[mask] = spec.grey / 255 * white
    if spec.contrast is not None:
        values[mask] *= 1 + spec.contrast * strength[mask]
    # Nothing that is drawn is as dark as the background.
    values[mask] = np.clip(values[mask], white / 255, white)
    drawn = picture.copy()
    whole = picture.dtype.kind in "iu"
    drawn[mask] = np.rint(values[mask]) if whole else values[mask]
    return drawn, mask


def _pixels(area_mm2: float, pixel_mm: float) -> int:
    return max(1, round(area_mm2 / pixel_mm**2))


def _sides(count: int) -> tuple[int, int]:
    rows = max(1, round(math.sqrt(count)))
    return rows, max(1, round(count / rows))


def _reach_px(shape: Shape, count: int) -> float:
    """Give how far from its centre a shape has pixels at most, wherever between pixels it lies."""
    if shape == "square":
        return 0.5 * math.hypot(*_sides(count)) + 1.4
    widest = 1 + len(_WAVES) * _WAVE if shape == "textured" else 1.0
    return widest * math.sqrt(count / np.pi) + 1.4


def _rectangle(shape: tuple[int, ...], spec: ShapeSpec, count: int) -> PixelMask:
    mask = np.zeros(shape, dtype=bool)
    spans = []
    for centre, side in zip(spec.centre_px, _sides(count), strict=True):
        first = round(centre - (side - 1) / 2)
        spans.append(slice(max(first, 0), max(first + side, 0)))
    mask[tuple(spans)] = True
    return mask


def _blob(
    shape: tuple[int, ...], spec: ShapeSpec, count: int
) -> tuple[PixelMask, Float[np.ndarray, " rows columns"]]:
    """Return the pixels nearest to the centre, and 1 in their middle down to 0 at their edge."""
    rows, columns = np.indices(shape)
    down, right = rows - spec.centre_px[0], columns - spec.centre_px[1]
    angle = np.arctan2(down, right)
    radius = np.ones(shape)
    for number, (amplitude, phase) in zip(_WAVES, spec.waves, strict=False):
        radius += amplitude * np.cos(number * angle + phase)
    distance = np.hypot(down, right) / radius
    nearest = np.argsort(np.round(distance, 6), axis=None, kind="stable")[:count]
    mask = np.zeros(shape, dtype=bool)
    mask.flat[nearest] = True
    share = np.clip((1 - distance / (distance[mask].max() + 0.5)) / _EDGE, 0, 1)
    return mask, share**2 * (3 - 2 * share)
