"""What slices are cut from: a prepared volume, or the scan that it was made from."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Shaped

from hemitwin._names import Plane
from hemitwin._shapes import Affine, Mask
from hemitwin.pipeline.preparation.lesion_files import is_in_template_space
from hemitwin.pipeline.preparation.native_space import NativeSpace
from hemitwin.pipeline.slices.config import SliceConfig
from hemitwin.pipeline.slices.picture_size import PictureSize
from hemitwin.pipeline.stage.bids import Case, sidecar_of
from hemitwin.pipeline.stage.errors import CaseError
from hemitwin.pipeline.stage.json_files import digest_file, read_json
from hemitwin.pipeline.stage.records import recorded_inputs
from hemitwin.transforms import (
    CutPlanes,
    Scan,
    SliceGrid,
    background_value,
    load_mask,
    load_scan,
    load_volume,
    resample,
    voxel_sizes,
)

__all__ = ["Cut", "SliceSource", "native_scan"]

Pixels = Shaped[np.ndarray, " rows columns"]
PixelMask = Bool[np.ndarray, " rows columns"]

_INSIDE = 0.5  # share of brain in a pixel of the brain
_DEEP = 0.999  # share of brain in a pixel that is a voxel or more inside it
_SAME_MM = 1e-3
_NARROWEST = 1e-30  # of a window: a brain of one value is white
_FOR_PERCENTILES = 200_000  # values at least: a percentile is met within 0.1


@dataclass(frozen=True, eq=False)
class Cut:
    """A slice, or a half of one.

    Parameters
    ----------
    pixels : (rows, columns) uint8 or uint16
        The brain is at least 1, all else 0.
    brain : (rows, columns) bool
        Where the brain is.
    """

    pixels: Pixels
    brain: PixelMask

    def columns(self, part: slice) -> "Cut":
        """Return some of its columns."""
        pixels, brain = (np.ascontiguousarray(one[:, part]) for one in (self.pixels, self.brain))
        return Cut(pixels, brain)


@dataclass(frozen=True, eq=False)
class SliceSource:
    """One subject's volume, its brain, and the window of its greys.

    Parameters
    ----------
    prepared : Scan
        The prepared volume: positions are in its space, and above 0 it is the brain.
    scan : Scan
        What is sampled: the prepared volume or the scan.
    scan_from_template : (4, 4), optional
        Template RAS+ mm to the scan's; none of a prepared volume.
    window : (2,) float
        Values of the darkest and the brightest grey.
    size : PictureSize
        The pictures'.
    white : int
        255 or 65535.
    background : float, optional
        A value of a native scan that stands for no value at all.
    lesion : Scan, optional
        Share of lesion in the voxels of the prepared grid.
    """

    prepared: Scan
    scan: Scan
    scan_from_template: Affine | None
    window: tuple[float, float]
    size: PictureSize
    white: int
    background: float | None = None
    lesion: Scan | None = None

    @classmethod
    def load(
        cls,
        case: Case,
        size: PictureSize,
        config: SliceConfig,
        *,
        native: NativeSpace | None = None,
        lesion: Path | None = None,
    ) -> "SliceSource":
        """Read a case's volumes.

        Parameters
        ----------
        case : Case
            Of a prepared volume.
        size : PictureSize
            The pictures'.
        config : SliceConfig
            Window and bits.
        native : NativeSpace, optional
            Of a native source, the scan and the way to it.
        lesion : Path, optional
            The mask of its lesion, in the space of the scan or of the template.

        Raises
        ------
        CaseError
            The prepared volume has voxels of another size than the folder's pictures are to have.
        ValueError
            A volume is damaged, or no brain.
        """
        prepared = load_volume(case.scan, as_stored=True)
        known = None if lesion is None else _lesion_of(case, prepared, lesion)
        white = 2**config.bits - 1
        if native is not None:
            scan = load_scan(native.scan, as_stored=True)
            background = background_value(scan.data)
            values = _values_at(prepared, scan, native.from_template, config)
            window = _window(values[values != background], config)
            route = (scan, native.from_template)
            return cls(prepared, *route, window, size, white, background, known)
        voxel_mm = voxel_sizes(prepared.affine)[0]
        if config.spacing_mm is None and abs(voxel_mm - size.pixel_mm) > _SAME_MM:
            reason = (
                f"all volumes must have voxels of one size, {size.pixel_mm:g} mm, but this has "
                f"{voxel_mm:g}; prepare all at one resolution, or state --spacing-mm"
            )
            raise CaseError(case.name, "slice", reason)
        values = prepared.data.ravel(order="K")
        window = _window(values[_spread(np.flatnonzero(values > 0), config)], config)
        return cls(prepared, prepared, None, window, size, white, None, known)

    @cached_property
    def brain(self) -> Mask:
        """Where the brain is, on the prepared grid."""
        return self.prepared.data > 0

    @cached_property
    def mm_per_template_mm(self) -> float:
        """Length of a template millimetre in the pictures' own millimetres."""
        if self.scan_from_template is None:
            return 1.0
        return float(abs(np.linalg.det(self.scan_from_template[:3, :3])) ** (1 / 3))

    def cut(self, plane: Plane, position_mm: float) -> Cut:
        """Cut a whole slice at a position in template mm."""
        grid = self._grid(plane)
        if self.scan_from_template is None:
            values, share = grid.sample_above(self.prepared, position_mm)
            brain = share >= _INSIDE
            # The background counts in no pixel: a dark rim would be an edge of its own.
            values = values / share.clip(_INSIDE, 1)
        else:
            share = grid.share_above(self.prepared, position_mm)
            brain = share >= _INSIDE
            route = (self.scan, position_mm, self.scan_from_template)
            if self.background is None:
                values = grid.sample(*route)
            else:
                values, of_scan = grid.sample_known(
                    *route, background=self.background, within=brain
                )
                known = of_scan >= _INSIDE
                # Nothing in the scan, a voxel and more inside, is a filled hole: the darkest.
                brain &= known | (share >= _DEEP)
                values[~known] = -np.inf
        low, high = self.window
        # Of all pixels: to pick those of the brain would take longer than the arithmetic.
        above = np.where(brain, values - np.float32(low), np.float32(0))
        above *= np.float32((self.white - 1) / max(high - low, _NARROWEST))
        above = np.rint(above.clip(0, self.white - 1)) + 1
        depth = np.uint8 if self.white == 255 else np.uint16
        return Cut(above.astype(depth) * brain, brain)

    def _grid(self, plane: Plane) -> SliceGrid:
        return self.size.grid(plane, self.mm_per_template_mm)

    def lesion_in(self, plane: Plane, position_mm: float) -> PixelMask:
        """Return where the lesion is in a whole slice; nowhere without a mask."""
        grid = self._grid(plane)
        if self.lesion is None:
            return np.zeros(grid.shape, dtype=bool)
        return np.asarray(grid.sample(self.lesion, position_mm) >= _INSIDE)

    def brain_mm2(self, plane: Plane, position_mm: float) -> float:
        """Return the brain's area in a slice, in the pictures' own mm2."""
        data, affine = self.prepared.data, self.prepared.affine
        inside = CutPlanes.of(data, affine, plane, position_mm).share() >= _INSIDE
        edge_mm = voxel_sizes(affine)[0] * self.mm_per_template_mm
        return float(inside.sum()) * edge_mm**2


def native_scan(case: Case) -> NativeSpace:
    """Return the scan that a prepared volume was made from, and the way there.

    Raises
    ------
    CaseError
        It is not there any more, or another file is there.
    """
    native = NativeSpace.of(case, "slice")
    if not native.scan.is_file():
        reason = (
            f"the scan that the prepared volume was made from must be there, {native.scan} is "
            f"not; put it back, or slice the prepared volumes"
        )
        raise CaseError(case.name, "slice", reason)
    made_from = recorded_inputs(read_json(sidecar_of(case.scan))).get("scan")
    if made_from is not None and digest_file(native.scan) != made_from:
        reason = f"{native.scan} must be the scan that was prepared, it was changed; prepare again"
        raise CaseError(case.name, "slice", reason)
    return native


def _lesion_of(case: Case, prepared: Scan, path: Path) -> Scan:
    shape: tuple[int, int, int] = prepared.data.shape
    if is_in_template_space(path):
        mask, from_template = load_mask(path), np.eye(4)
    else:
        native = NativeSpace.of(case, "slice")
        mask, from_template = load_mask(path, beside=native.grid), native.from_template
    inside = Scan((mask.data > _INSIDE).astype(np.float32), mask.affine)
    return Scan(resample(inside, shape, prepared.affine, from_template), prepared.affine)


def _values_at(
    prepared: Scan, scan: Scan, scan_from_template: Affine, config: SliceConfig
) -> np.ndarray:
    """Read the scan at voxels of the prepared brain, nearest neighbours."""
    index_from_index = np.linalg.inv(scan.affine) @ scan_from_template @ prepared.affine
    voxels = _spread(np.flatnonzero(prepared.data > 0), config)
    indices = np.unravel_index(voxels, prepared.data.shape)
    # Axis by axis: a product of matrices would wake a thread for each core.
    places = [
        np.rint(sum(row[axis] * indices[axis] for axis in range(3)) + row[3]).astype(np.intp)
        for row in index_from_index[:3]
    ]
    ends = zip(places, scan.data.shape, strict=True)
    inside = np.all([(place >= 0) & (place < end) for place, end in ends], axis=0)
    return np.asarray(scan.data[tuple(place[inside] for place in places)])


def _spread(values: np.ndarray, config: SliceConfig) -> np.ndarray:
    """Return enough of many values for the window's percentiles, at even distances."""
    ends = config.window[0] == 0 or config.window[1] == 100  # a least value is one of all
    return values if ends else values[:: max(1, values.size // _FOR_PERCENTILES)]


def _window(values: np.ndarray, config: SliceConfig) -> tuple[float, float]:
    if not values.size:
        msg = (
            "a volume must show something where the prepared one is above 0, the brain, but it "
            "does not; prepare again"
        )
        raise ValueError(msg)
    low, high = np.percentile(values, config.window)
    return float(low), float(high)
