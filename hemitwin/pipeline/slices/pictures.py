"""A subject's pictures: slices or halves, with and without a shape, and their rows."""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from jaxtyping import Shaped

from hemitwin._names import Plane
from hemitwin.pipeline.slices.config import SliceConfig
from hemitwin.pipeline.slices.places import places_of, voxel_plane
from hemitwin.pipeline.slices.source import Cut, PixelMask, Pixels, SliceSource
from hemitwin.transforms import SIDES, ShapeConfig, ShapeSpec, Side, draw_shape, sample_shape

__all__ = ["Row", "Save", "pictures_of"]

logger = logging.getLogger(__name__)

Row = dict[str, object]
"""One line of the table, without what is known of the subject."""

Save = Callable[[str, Pixels | None], str]
"""Writes a picture under a name, which the case's goes before; gives the name in the table. Of
what is written already, it gives the name alone."""

HalfPixels = Shaped[np.ndarray, " rows half"]
_WORDS = {"L": "left", "R": "right"}


@dataclass(frozen=True, eq=False)
class _View:
    """Both halves at one place; the right one lies on the left one.

    Parameters
    ----------
    plane : str
        Orientation.
    position_mm : float
        Template mm; of sagittal slices the left one's.
    halves : mapping of str to Cut
        By side.
    whole : Cut, optional
        The whole slice; a sagittal one is its own half.
    numbers : mapping of str to int
        The prepared volume's nearest plane, by side.
    truth : mapping of str to mask
        Where each half is abnormal; empty where nothing is known.
    said : mapping
        What the table says of the truth.
    tag : str
        Ends the names of pictures that were changed.
    """

    plane: Plane
    position_mm: float
    halves: Mapping[Side, Cut]
    whole: Cut | None
    numbers: Mapping[Side, int]
    truth: Mapping[Side, PixelMask] = field(default_factory=dict)
    said: Mapping[str, object] = field(default_factory=dict)
    tag: str = ""

    def place(self, side: Side) -> float:
        return -self.position_mm if self.whole is None and side == "R" else self.position_mm

    def name(self, side: Side | None = None, *, halved: bool = False) -> str:
        """Name a picture by plane and position, and by side where it is a half."""
        position_mm = self.position_mm if side is None else self.place(side)
        entity = f"_hemi-{side}" if halved else ""
        return f"{self.plane}{position_mm:+07.2f}mm{entity}"

    def row(self, side: Side) -> Row:
        """Say where a picture was cut."""
        place = {"plane": self.plane, "slice": self.numbers[side]}
        return {**place, "position_mm": self.place(side)}

    @property
    def pair(self) -> str:
        """Names what is each other's mirror."""
        if self.whole is None:
            return f"{self.plane}{abs(self.position_mm):06.2f}mm{self.tag}"
        return f"{self.plane}{self.position_mm:+07.2f}mm{self.tag}"

    @property
    def changed(self) -> tuple[Side, ...]:
        """The halves in which something is abnormal."""
        return tuple(side for side in SIDES if side in self.truth and self.truth[side].any())


def pictures_of(case: str, source: SliceSource, config: SliceConfig, save: Save) -> Sequence[Row]:
    """Cut a subject's pictures, write them, and return their rows.

    Parameters
    ----------
    case : str
        The case's name: with the seed it decides what is drawn.
    source : SliceSource
        The subject's volumes.
    config : SliceConfig
        Which pictures.
    save : callable
        Writes one.

    Returns
    -------
    sequence of dict
        A row a picture or, of halves, a row a pair.
    """
    rows: list[Row] = []
    write = _rows_of_halves if config.part == "hemisphere" else _rows_of_wholes
    without_room = 0
    for plane in config.planes:
        for position_mm in places_of(source, plane, config):
            view = _view(source, plane, position_mm)
            seen = [bool(half.brain.any()) for half in view.halves.values()]
            if config.part == "hemisphere" and not all(seen):
                continue  # the brain's lowest or foremost slice, which cuts one half alone
            healthy = _labelled(source, view, config)
            rows += write(healthy, healthy, save)
            for area_mm2 in config.asymmetry_mm2:
                drawn = _drawn(healthy, case, area_mm2, source, config)
                without_room += drawn is None
                if drawn is not None:
                    rows += write(drawn, healthy, save)
    if without_room:
        logger.info("%s: %d slices have no room for what is to be drawn", case, without_room)
    return rows


def _view(source: SliceSource, plane: Plane, position_mm: float) -> _View:
    if plane == "sagittal":
        places: dict[Side, float] = {"L": position_mm, "R": -position_mm}
        mirrored: dict[Side, Cut] = {s: source.cut(plane, place) for s, place in places.items()}
        numbers: dict[Side, int] = {
            side: voxel_plane(source, plane, place) for side, place in places.items()
        }
        return _View(plane, position_mm, mirrored, None, numbers)
    whole = source.cut(plane, position_mm)
    pixels, brain = _halved(whole.pixels), _halved(whole.brain)
    halves: dict[Side, Cut] = {side: Cut(pixels[side], brain[side]) for side in SIDES}
    number = voxel_plane(source, plane, position_mm)
    return _View(plane, position_mm, halves, whole, dict.fromkeys(SIDES, number))


def _halved(picture: Pixels) -> Mapping[Side, HalfPixels]:
    """Return the halves of a slice, the right one mirrored."""
    columns = picture.shape[1] // 2
    right = picture[:, ::-1][:, :columns]
    return {"L": np.ascontiguousarray(picture[:, :columns]), "R": np.ascontiguousarray(right)}


def _joined(halves: Mapping[Side, HalfPixels], whole: Pixels) -> Pixels:
    """Put halves back into a slice."""
    columns = halves["L"].shape[1]
    joined = whole.copy()
    joined[:, :columns] = halves["L"]
    joined[:, ::-1][:, :columns] = halves["R"]
    return joined


def _labelled(source: SliceSource, view: _View, config: SliceConfig) -> _View:
    """Say of a slice as it is whether, and on which side, there is a lesion."""
    if config.asymmetry_mm2:
        said: dict[str, object] = {"label": "none", "abnormal": 0}
        said |= {"asymmetry_mm2": 0.0, "asymmetry_shape": "none", "asymmetry_grey": None}
        return replace(view, said=said)
    if source.lesion is None:
        return replace(view, said={"label": "none", "abnormal": 0, "lesion_mm2": 0.0})
    if view.whole is None:
        places = {side: source.lesion_in(view.plane, view.place(side)) for side in SIDES}
        lesioned = replace(view, truth=places)
    else:
        lesioned = replace(view, truth=_halved(source.lesion_in(view.plane, view.position_mm)))
    sides = lesioned.changed
    label = "both" if len(sides) == 2 else _WORDS[sides[0]] if sides else "none"
    area_mm2 = sum(_mm2(one, source) for one in lesioned.truth.values())
    said = {"label": label, "abnormal": int(bool(sides)), "lesion_mm2": area_mm2}
    return replace(lesioned, said=said)


def _drawn(
    view: _View, case: str, area_mm2: float, source: SliceSource, config: SliceConfig
) -> _View | None:
    """Draw a shape into one half; None where it has no room."""
    words = f"{case} {view.plane} {view.position_mm:.3f} {area_mm2:.4f}"
    rng = np.random.default_rng([config.seed, *words.encode()])
    side = SIDES[int(rng.integers(2))]
    half, pixel_mm = view.halves[side], source.size.pixel_mm
    ranges = ShapeConfig(
        shapes=config.asymmetry_shapes,
        grey=config.asymmetry_grey,
        contrast=config.asymmetry_contrast,
    )
    try:
        spec = sample_shape(rng, ranges, half.brain, pixel_mm, area_mm2=area_mm2)
    except ValueError:
        return None
    pixels, mask = draw_shape(half.pixels, half.brain, spec, pixel_mm, white=float(source.white))
    truth = {one: mask if one == side else np.zeros_like(mask) for one in SIDES}
    return replace(
        view,
        halves={**view.halves, side: Cut(pixels, half.brain)},
        truth=truth,
        said=_said_of(spec, side, _mm2(mask, source)),
        tag=f"_asymmetry-{area_mm2:07.2f}mm2",
    )


def _said_of(spec: ShapeSpec, side: Side, area_mm2: float) -> Row:
    return {
        "label": _WORDS[side],
        "abnormal": 1,
        "asymmetry_mm2": area_mm2,
        "asymmetry_shape": spec.shape,
        "asymmetry_grey": spec.grey,
    }


def _mm2(mask: PixelMask, source: SliceSource) -> float:
    return round(float(mask.sum()) * source.size.pixel_mm**2, 4)


def _rows_of_halves(view: _View, healthy: _View, save: Save) -> Iterator[Row]:
    """Write what the healthy pair does not have already: a pair shares its unchanged half."""
    names = {}
    for side in SIDES:
        touched = view is healthy or side in view.changed
        name = view.name(side, halved=True) + (view.tag if touched else "")
        names[side] = save(name, view.halves[side].pixels if touched else None)
    files: Row = {"left_file_name": names["L"], "right_file_name": names["R"]}
    if view.changed:
        either = np.logical_or(*view.truth.values())
        files["mask_file_name"] = save(f"{view.name()}{view.tag}_mask", _as_picture(either))
    yield {**files, **view.row("L"), **view.said, "pair": view.pair}


def _rows_of_wholes(view: _View, healthy: _View, save: Save) -> Iterator[Row]:
    if view.whole is None:
        for side in SIDES:
            if view is healthy or side in view.changed:
                yield _row_of_sagittal(view, healthy, side, save)
        return
    pixels: dict[Side, HalfPixels] = {side: view.halves[side].pixels for side in SIDES}
    picture = view.whole.pixels if view is healthy else _joined(pixels, view.whole.pixels)
    files: Row = {"file_name": save(f"{view.name()}{view.tag}", picture)}
    if view.changed:
        mask = _joined(view.truth, np.zeros_like(view.whole.brain))
        files["mask_file_name"] = save(f"{view.name()}{view.tag}_mask", _as_picture(mask))
    yield {**files, **view.row("L"), **view.said, "midline_px": picture.shape[1] / 2 - 0.5}


def _row_of_sagittal(view: _View, healthy: _View, side: Side, save: Save) -> Row:
    """Write one of two mirrored slices: what is said of it is what lies in it."""
    name = f"{view.name(side)}{view.tag}"
    row: Row = {"file_name": save(name, view.halves[side].pixels), **view.row(side), **view.said}
    changed = side in view.changed
    if changed:
        row["mask_file_name"] = save(f"{name}_mask", _as_picture(view.truth[side]))
    row |= {"label": _WORDS[side] if changed else "none", "abnormal": int(changed)}
    if view is healthy:
        row["pair"] = view.pair
        row["lesion_mm2"] = view.said.get("lesion_mm2") if changed else 0.0
    return row


def _as_picture(mask: PixelMask) -> Pixels:
    return mask.astype(np.uint8) * 255
