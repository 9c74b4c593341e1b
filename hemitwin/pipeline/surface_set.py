"""The surfaces over a subject's scan: one set for all atlases, with what it was made of."""

from pathlib import Path
from typing import Any

from hemitwin.atlases import BRAIN_SURFACES, save_surface
from hemitwin.pipeline.atlas_paths import surface_path
from hemitwin.pipeline.bids import Case
from hemitwin.pipeline.outputs import digest_file, provenance, read_json, write_json
from hemitwin.pipeline.subject_places import SubjectPlaces

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
    """Read what the set was made of, if it is whole and of the prepared volume as it is now."""
    sidecar = _sidecar(case, derivatives)
    if not sidecar.is_file():
        return None
    content = read_json(sidecar)
    if content["PreparedSHA256"] != digest_file(case.scan):
        return None
    for name, digest in content["Digests"].items():
        path = sidecar.with_name(name)
        if not path.is_file() or digest_file(path) != digest:
            return None
    return content


def surfaces_are_done(places: SubjectPlaces) -> bool:
    """Tell whether the set that is there is what would be written.

    A subject's own surfaces are not given up for the group's, which another atlas would bring.
    """
    if places.surfaces_key is None:
        return True
    content = read_surface_set(places.case, places.derivatives)
    if content is None:
        return False
    kept = bool(content["Own"]) and places.cortex is None
    return kept or content["Key"] == places.surfaces_key


def write_surface_set(places: SubjectPlaces) -> None:
    """Write the surfaces, and the sidecar last, unless they are there."""
    if surfaces_are_done(places):
        return
    case, out = places.case, places.derivatives
    sidecar = _sidecar(case, out)
    sidecar.unlink(missing_ok=True)
    paths = []
    for surface in places.surfaces:
        paths.append(surface_path(case, out, surface.hemisphere, surface.kind))
        save_surface(paths[-1], surface)
    content = {
        "Description": "White, midthickness and pial surfaces over the scan, on the fsLR mesh",
        "Origin": places.origin,
        "Own": places.cortex is not None,
        "PreparedSHA256": digest_file(case.scan),
        "Key": places.surfaces_key,
        "Digests": {path.name: digest_file(path) for path in paths},
        "GeneratedBy": provenance(),
    }
    write_json(sidecar, content)


def _sidecar(case: Case, derivatives: Path) -> Path:
    return case.path(derivatives, f"space-{case.modality}_den-32k_surfaces.json")
