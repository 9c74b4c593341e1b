"""From a point of a scan to the name of its region: by the subject's surfaces, or the template."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int32

from hemitwin.atlases import (
    BRAIN_SURFACES,
    FREESURFER_STRUCTURES,
    HCPMMP,
    TEMPLATE_SPACE,
    Atlas,
    Ribbon,
    Surface,
    label_at,
    label_in_ribbons,
    load_fslr_surface,
    warp_surface,
)
from hemitwin.pipeline.preparation.native_space import NativeSpace
from hemitwin.pipeline.regions.atlas_files import PREPARED
from hemitwin.pipeline.regions.hidden_lesions import check_extent
from hemitwin.pipeline.regions.own_cortex import OwnCortex
from hemitwin.pipeline.regions.registration import LesionMask, register_subject
from hemitwin.pipeline.stage.bids import Case, sidecar_of
from hemitwin.pipeline.stage.names import deformation_path
from hemitwin.pipeline.stage.records import Record
from hemitwin.transforms import (
    Deformation,
    Scan,
    load_deformation,
    load_labels,
    load_volume,
    save_deformation,
)

__all__ = ["SubjectPlaces"]

Points = Float[np.ndarray, " n 3"]
Labels = Int32[np.ndarray, " n"]


@dataclass(frozen=True, eq=False)
class SubjectPlaces:
    """What is known of where a subject's regions lie.

    Parameters
    ----------
    case : Case
        Of a prepared volume.
    derivatives : Path
        Where the deformation is kept.
    native : NativeSpace
        The scan's own space.
    lesion : LesionMask or None
        What is kept out of the registration.
    cortex : HcpSubject, FreeSurferSubject or None
        The subject's own surfaces.
    """

    case: Case
    derivatives: Path
    native: NativeSpace
    lesion: LesionMask | None
    cortex: OwnCortex | None

    @cached_property
    def prepared(self) -> Scan:
        """The prepared volume."""
        return load_volume(self.case.scan)

    @cached_property
    def deformation(self) -> Deformation:
        """Brain to template; registered when it is first asked for, and kept in a file."""
        path = deformation_path(self.case, self.derivatives)
        record = self._deformation_record
        if record.find(sidecar_of(path)) is not None:
            return load_deformation(path)
        if self.lesion is not None:
            check_extent(self.case, self.lesion, self.prepared)
        made = register_subject(self.prepared, self.lesion)
        record.begin(sidecar_of(path))
        save_deformation(path, made)
        content = {
            "Description": f"Displacement field of ITK (LPS mm): images of {TEMPLATE_SPACE} to "
            f"the prepared volume, which is aligned to it by a similarity",
            "Sources": [f"bids::{self.case.scan.name}"],
            "LesionMask": None if self.lesion is None else self.lesion.path.name,
            "Key": record.digest,
        }
        record.write(sidecar_of(path), content, [path])
        return made

    @cached_property
    def _deformation_record(self) -> Record:
        inputs = {PREPARED: self.case.scan}
        if self.lesion is not None:
            inputs["lesion mask"] = self.lesion.path
        there = None if self.lesion is None else self.lesion.scan_from_template.tolist()
        return Record("atlas", computation=2, inputs=inputs, settings={"mask_lies": there})

    @property
    def deformation_key(self) -> str:
        """What decides the deformation."""
        return self._deformation_record.digest

    @property
    def origin(self) -> str:
        """What the surfaces are, in words."""
        if self.cortex is None:
            return "the group's, moved by the deformation: they follow lobes, not folds"
        return self.cortex.origin

    @property
    def surfaces_from(self) -> dict[str, Path] | None:
        """The files that decide the surfaces, beside the deformation where there are none.

        `None` where nothing says where the fsLR vertices lie.
        """
        if self.cortex is None:
            return {}
        paths = self.cortex.fslr_paths
        if not all(path.is_file() for path in paths):
            return None
        return {path.name: path for path in paths}

    @cached_property
    def surfaces(self) -> tuple[Surface, ...]:
        """White, midthickness and pial surface of both sides over the scan: fsLR 32k, native mm.

        The subject's own, or the group's, moved by the deformation.
        """
        if self.cortex is not None:
            return self.cortex.fslr_surfaces
        moved = []
        for side in ("L", "R"):
            for kind in BRAIN_SURFACES:
                surface = load_fslr_surface(side, kind, space=TEMPLATE_SPACE)
                aligned = self.deformation.from_template(surface.vertices.astype(np.float64))
                own = replace(surface, vertices=aligned.astype(np.float32))
                moved.append(warp_surface(own, self.native.from_template))
        return tuple(moved)

    def by_template(self, atlas: Atlas) -> Callable[[Points], Labels]:
        """Look points of the scan up in the template, where the deformation leads them."""
        return lambda points: atlas.label_points(self._in_template(points))

    def by_surfaces(self, atlas: Atlas) -> Callable[[Points], Labels]:
        """Look points of the scan up between the subject's own surfaces."""
        meshes = {(one.hemisphere, one.kind): one for one in self.surfaces}
        ribbons = tuple(
            Ribbon.between(meshes[side, "white"], meshes[side, "pial"], labels)
            for side, labels in atlas.cortex.items()
        )
        return self.by_ribbons(ribbons, atlas)

    def by_ribbons(
        self, ribbons: tuple[Ribbon, ...], atlas: Atlas | None
    ) -> Callable[[Points], Labels]:
        """Look points up in labelled ribbons, and in an atlas' voxels, which win."""

        def label(points: Points) -> Labels:
            labels = label_in_ribbons(points, ribbons)
            if atlas is None or atlas.voxels is None:
                return labels
            found = self._structures(points, atlas)
            return np.where(found > 0, found, labels)

        return label

    def _structures(self, points: Points, atlas: Atlas) -> Labels:
        """Take what lies below the cortex from the subject's segmentation, where there is one."""
        segmentation = None if self.cortex is None else self.cortex.segmentation
        if segmentation is None or atlas.name != HCPMMP:
            return atlas.label_voxels(self._in_template(points))
        labels, affine = load_labels(segmentation)
        index = {region.name: region.index for region in atlas.regions}
        number = np.zeros(max(int(labels.max()), *FREESURFER_STRUCTURES) + 1, dtype=np.int32)
        for code, name in FREESURFER_STRUCTURES.items():
            number[code] = index[name]
        found: np.ndarray = number[np.maximum(label_at(labels, affine, points), 0)]
        return found

    def _in_template(self, points: Points) -> Points:
        back = np.linalg.inv(self.native.from_template)
        return self.deformation.to_template(points @ back[:3, :3].T + back[:3, 3])
