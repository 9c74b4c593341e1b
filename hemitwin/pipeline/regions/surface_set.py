"""The surfaces over a subject's scan: one set for all atlases, with what it was made of."""

from pathlib import Path
from typing import Any

from hemitwin.atlases import BRAIN_SURFACES, save_surface
from hemitwin.pipeline.regions.atlas_files import PREPARED
from hemitwin.pipeline.regions.places import SubjectPlaces
from hemitwin.pipeline.stage.bids import Case
from hemitwin.pipeline.stage.names import surface_path, surface_set_path
from hemitwin.pipeline.stage.records import Record, content_digest, read_product, recorded_inputs

__all__ = [
    "native_surfaces",
    "read_surface_set",
    "surface_files",
    "surfaces_are_done",
    "write_surface_set",
]

_SIDES = ("L", "R")


def native_surfaces(case: Case, derivatives: Path) -> tuple[tuple[Path, str], ...]:
    """List the surfaces over the subject's scan that `build_atlases` wrote, with sides."""
    return () if read_surface_set(case, derivatives) is None else surface_files(case, derivatives)


def surface_files(case: Case, derivatives: Path) -> tuple[tuple[Path, str], ...]:
    """Name the files of the set, with sides."""
    return tuple(
        (surface_path(case, derivatives, side, kind), side)
        for side in _SIDES
        for kind in BRAIN_SURFACES
    )


def read_surface_set(case: Case, derivatives: Path) -> dict[str, Any] | None:
    """Read what is said of the set, if it is whole and of the prepared volume as it is now."""
    sidecar = surface_set_path(case, derivatives)
    files = [path for path, _ in surface_files(case, derivatives)]
    found = [read_product(path, sidecar) for path in files]
    content = found[0]
    if content is None or None in found:
        return None
    known = recorded_inputs(content).get(PREPARED, content.get("PreparedSHA256"))
    return content if known == content_digest(case.scan) else None


def surfaces_are_done(places: SubjectPlaces) -> bool:
    """Tell whether the set that is there is what would be written.

    A subject's own surfaces are not given up for the group's, which another atlas would bring.
    """
    record = _record(places)
    if record is None:
        return True
    if places.cortex is None:
        content = read_surface_set(places.case, places.derivatives)
        if content is not None and content["Own"]:
            return True
    return record.find(surface_set_path(places.case, places.derivatives)) is not None


def write_surface_set(places: SubjectPlaces) -> None:
    """Write the surfaces, and the sidecar last, unless they are there."""
    record = _record(places)
    if record is None or surfaces_are_done(places):
        return
    case, out = places.case, places.derivatives
    sidecar = surface_set_path(case, out)
    record.begin(sidecar)
    paths = []
    for surface in places.surfaces:
        paths.append(surface_path(case, out, surface.hemisphere, surface.kind))
        save_surface(paths[-1], surface)
    content = {
        "Description": "White, midthickness and pial surfaces over the scan, on the fsLR mesh",
        "Origin": places.origin,
        "Own": places.cortex is not None,
    }
    record.write(sidecar, content, paths)


def _record(places: SubjectPlaces) -> Record | None:
    """Say what decides the set; `None` where there is nothing to make it of."""
    files = places.surfaces_from
    if files is None:
        return None
    by_template = places.cortex is None
    return Record(
        "atlas",
        computation=2,
        inputs={PREPARED: places.case.scan, **files},
        settings={
            "deformation": places.deformation_key if by_template else None,
            "native_from_template": places.native.from_template.tolist() if by_template else None,
        },
    )
