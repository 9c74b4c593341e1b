"""An atlas: named places on the cortical surface, in voxels, or both."""

import functools
import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from jaxtyping import Bool, Float, Int32
from scipy import ndimage
from scipy.spatial import KDTree

from hemitwin._shapes import Affine
from hemitwin.atlases.parcellation import Parcellation, check_regions
from hemitwin.atlases.regions import Region
from hemitwin.atlases.surfaces.meshes import BRAIN_SURFACES, FSLR_VOLUME_SPACE, load_fslr_surface
from hemitwin.atlases.templates import (
    TEMPLATE_SPACE,
    TemplateImage,
    load_template,
    template_on_grid,
)
from hemitwin.atlases.volume_offset import fslr_volume_from_template
from hemitwin.atlases.world import check_affine, label_at, sample_at

__all__ = ["Atlas"]

_FSLR_VERTICES = 32_492
"""Of each side."""
_REACH_MM = 3.0
_GREY_MATTER = 0.5
_BLUR_SIGMA = 0.5
_BLUR_VOXELS = 3
"""One more than the blur reaches: the rim of a blurred label's box is 0."""

_ENTITY = re.compile(r"[a-zA-Z0-9]+")

Labels = Int32[np.ndarray, " n"]
Points = Float[np.ndarray, " n 3"]


@dataclass(frozen=True, eq=False)
class Atlas:
    """Regions and where they lie in template space.

    Attributes
    ----------
    name : str
        Value of the BIDS entity `atlas-`: letters and digits.
    regions : tuple of Region
        All regions, whether cortical or not.
    cortex : mapping of str to (32492,) int32
        Region index of each fsLR vertex, by side; empty for an atlas of voxels.
    voxels : Parcellation or None
        Region index of each voxel, in `TEMPLATE_SPACE` or MNI152NLin6Asym; they win over the
        cortex. None for an atlas of surfaces.
    smooth : bool
        Let the labels of coarse voxels vote, smoothed, in place of taking the voxel that contains
        a point.

    Raises
    ------
    ValueError
        When the name is no entity, there are no places or those of one side of the cortex, regions
        contradict each other, or a label has no region.
    """

    name: str
    regions: tuple[Region, ...]
    cortex: Mapping[str, Labels] = field(default_factory=dict)
    voxels: Parcellation | None = None
    smooth: bool = False

    def __post_init__(self) -> None:
        """Check that places and regions belong together."""
        if _ENTITY.fullmatch(self.name) is None:
            msg = f"an atlas' name must be letters and digits, got {self.name!r}; rename it"
            raise ValueError(msg)
        if self.voxels is None and not self.cortex:
            msg = "an atlas must have labels for both sides or voxels, got none; give one of them"
            raise ValueError(msg)
        check_regions(self.regions)
        _check_cortex(self.cortex, self.regions)
        if self.voxels is not None and self.voxels.space not in {
            TEMPLATE_SPACE,
            FSLR_VOLUME_SPACE,
        }:
            msg = (
                f"an atlas' voxels must be in {TEMPLATE_SPACE} or {FSLR_VOLUME_SPACE}, got "
                f"{self.voxels.space!r}; resample it to one of them (spaces called MNI differ by "
                f"millimetres)"
            )
            raise ValueError(msg)

    @cached_property
    def digest(self) -> str:
        """What tells an atlas from another: SHA-256 of its regions and labels."""
        digest = hashlib.sha256(repr((self.name, self.regions, self.smooth)).encode())
        for side, labels in sorted(self.cortex.items()):
            digest.update(side.encode() + labels.tobytes())
        if self.voxels is not None:
            digest.update(repr((self.voxels.space, self.voxels.affine.tolist())).encode())
            digest.update(self.voxels.labels.tobytes())
        return digest.hexdigest()

    def volume(
        self, shape: tuple[int, int, int], affine: Affine, *, symmetric: bool = False
    ) -> Parcellation:
        """Label a grid of template space.

        Parameters
        ----------
        shape : tuple of int
            Voxels per axis.
        affine : (4, 4) float
            Voxel index to RAS+ mm of `TEMPLATE_SPACE`.
        symmetric : bool
            Mirror the left labels onto the right.

        Returns
        -------
        Parcellation
            With all regions in its table.
        """
        check_affine(affine)
        grey = template_on_grid(shape, affine, kind="gm").ravel() > _GREY_MATTER
        points = np.indices(shape).reshape(3, -1).T @ affine[:3, :3].T + affine[:3, 3]
        labels = self.label_points(points, grey, symmetric=symmetric).reshape(shape)
        return Parcellation(labels, affine, self.regions, TEMPLATE_SPACE)

    def label_points(
        self,
        points_mm: Points,
        grey: Bool[np.ndarray, " n"] | None = None,
        *,
        symmetric: bool = False,
    ) -> Labels:
        """Name the region of points of template space.

        A point in grey matter takes the area of the nearest point of the cortical ribbon on its
        side, if that is within 3 mm: the ribbon is the S1200 white, midthickness and pial surfaces
        and what lies half-way between them, so that both banks of a sulcus keep their own. The
        side is the sign of x. Voxels' labels hold in grey matter or not, and win over cortex.

        Parameters
        ----------
        points_mm : (n, 3) float
            RAS+ mm of `TEMPLATE_SPACE`.
        grey : (n,) bool, optional
            Whether a point lies in grey matter; by default where nilearn's map at 1 mm says so.
        symmetric : bool
            Label the mirrored point on the left, and name the region's partner.

        Returns
        -------
        (n,) int32
            Region indices; 0 is no region.
        """
        if symmetric:
            right = points_mm[:, 0] > 0
            mirrored = np.where(right[:, None], points_mm * (-1, 1, 1), points_mm)
            left = self.label_points(mirrored, grey)
            return np.where(right, self.partners()[left], left)
        labels = np.zeros(len(points_mm), dtype=np.int32)
        if self.cortex:
            labels = self._label_cortex(points_mm, _grey_at(points_mm) if grey is None else grey)
        if self.voxels is not None:
            found = self.label_voxels(points_mm)
            labels = np.where(found > 0, found, labels)
        return labels

    def label_voxels(self, points_mm: Points) -> Labels:
        """Name the region of points of template space by the atlas' voxels alone."""
        labels = np.zeros(len(points_mm), dtype=np.int32)
        if self.voxels is None:
            return labels
        if self.smooth:
            near = _near_labels(self.voxels)
            chosen = np.flatnonzero(sample_at(near, self.voxels.affine, points_mm) > 0)
            found = _vote(self.voxels, points_mm[chosen])
            labels[chosen] = self._on_its_side(found, points_mm[chosen])
            return labels
        if self.voxels.space == FSLR_VOLUME_SPACE:
            points_mm = fslr_volume_from_template(points_mm)
        return label_at(self.voxels.labels, self.voxels.affine, points_mm)

    def partners(self) -> Labels:
        """Give each label that of its homotopic partner; what has none keeps its own."""
        index = {region.name: region.index for region in self.regions}
        partner = np.arange(max(index.values(), default=0) + 1, dtype=np.int32)
        for region in self.regions:
            if region.partner is not None:
                partner[region.index] = index[region.partner]
        return partner

    def _label_cortex(self, points_mm: Points, grey: Bool[np.ndarray, " n"]) -> Labels:
        labels = np.zeros(len(points_mm), dtype=np.int32)
        for side, sign in (("L", -1), ("R", 1)):
            chosen = np.flatnonzero(grey & (points_mm[:, 0] * sign > 0))
            tree = _ribbon(side)
            found_at = tree.query(points_mm[chosen], distance_upper_bound=_REACH_MM)
            distance, nearest = (np.asarray(one) for one in found_at)
            found = np.isfinite(distance)  # the number of an answer "none" is no point's
            labels[chosen[found]] = self.cortex[side][nearest[found] % _FSLR_VERTICES]
        return labels

    def _on_its_side(self, labels: Labels, points_mm: Points) -> Labels:
        """Give what crosses the mid-plane to the partner there, as with cortex."""
        side = np.zeros(max((region.index for region in self.regions), default=0) + 1)
        for region in self.regions:
            if region.partner is not None:
                side[region.index] = -1 if region.hemisphere == "L" else 1
        return np.where(side[labels] * points_mm[:, 0] < 0, self.partners()[labels], labels)


def _grey_at(points_mm: Points) -> Bool[np.ndarray, " n"]:
    template = _grey_matter()
    found: np.ndarray = sample_at(template.data, template.affine, points_mm) > _GREY_MATTER
    return found


@functools.cache
def _grey_matter() -> TemplateImage:
    return load_template(1.0, kind="gm")


@functools.cache
def _ribbon(side: str) -> KDTree:
    """Five layers of vertices: the number of a point, modulo that of vertices, is its vertex."""
    white, middle, pial = (
        load_fslr_surface(side, kind, space=TEMPLATE_SPACE).vertices for kind in BRAIN_SURFACES
    )
    layers = (white, (white + middle) / 2, middle, (middle + pial) / 2, pial)
    return KDTree(np.concatenate(layers))


@functools.cache  # by identity: an atlas' voxels are looked up again for every subject
def _near_labels(voxels: Parcellation) -> Float[np.ndarray, " x y z"]:
    near: np.ndarray = ndimage.binary_dilation(voxels.labels > 0, iterations=2).astype(np.float32)
    return near


def _vote(voxels: Parcellation, points: Points) -> Labels:
    """Give each point the label (0 included) that is strongest around it.

    The grid of the grayordinates has voxels on x = 0, ours beside it: the nearest voxel would be a
    tie everywhere, and its rounding would push all structures to one side.
    """
    best = np.zeros(len(points), dtype=np.float32)
    winner = np.zeros(len(points), dtype=np.int32)
    for label, weights, affine in _weights(voxels):
        weight = sample_at(weights, affine, points)
        winner[weight > best] = label
        best = np.maximum(best, weight)
    return winner


@functools.cache  # by identity, as above
def _weights(voxels: Parcellation) -> list[tuple[int, Float[np.ndarray, "x y z"], Affine]]:
    """Blur each label, in a box that holds it, with the box' affine."""
    found = []
    for label in np.unique(voxels.labels):
        inside = voxels.labels == label
        box = tuple(
            slice(max(int(places.min()) - _BLUR_VOXELS, 0), int(places.max()) + _BLUR_VOXELS + 1)
            for places in np.nonzero(inside)
        )
        affine = voxels.affine.copy()
        affine[:3, 3] += affine[:3, :3] @ [one.start for one in box]
        blurred = ndimage.gaussian_filter(inside[box].astype(np.float32), _BLUR_SIGMA)
        found.append((int(label), blurred, affine))
    return found


def _check_cortex(cortex: Mapping[str, Labels], regions: tuple[Region, ...]) -> None:
    """Refuse labels of one side, of another mesh, or without a region; there may be none at all.

    Raises
    ------
    ValueError
        When the labels are any of these.
    """
    if cortex and set(cortex) != {"L", "R"}:
        msg = (
            f"an atlas must have labels for both sides or voxels, got cortex of "
            f"{' and '.join(sorted(cortex))}; add the other side"
        )
        raise ValueError(msg)
    known = {0, *(region.index for region in regions)}
    for side, labels in cortex.items():
        if labels.shape != (_FSLR_VERTICES,):
            msg = (
                f"surface labels must be on the fsLR 32k mesh of {_FSLR_VERTICES} vertices, "
                f"got {labels.shape} for {side}; resample them with wb_command -label-resample"
            )
            raise ValueError(msg)
        if unknown := sorted(set(np.unique(labels).tolist()) - known):
            msg = (
                f"every label must have a region, got {unknown[:5]} without on side {side}; "
                f"complete the table"
            )
            raise ValueError(msg)
