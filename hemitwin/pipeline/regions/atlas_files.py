"""A subject's atlas files, read if they are of the prepared volume as it is; region tables."""

from pathlib import Path
from typing import Any

from hemitwin.atlases import (
    HCPMMP,
    TEMPLATE_SPACE,
    Parcellation,
    Region,
    hcpmmp_regions,
    read_dseg_table,
    save_dseg_table,
)
from hemitwin.pipeline.stage.bids import Case, sidecar_of
from hemitwin.pipeline.stage.errors import UserError, reading
from hemitwin.pipeline.stage.names import (
    aligned_atlas_path,
    deformation_path,
    dseg_table_path,
    native_atlas_path,
)
from hemitwin.pipeline.stage.records import content_digest, read_product, recorded_inputs
from hemitwin.transforms import Deformation, load_deformation, load_labels

__all__ = [
    "PREPARED",
    "has_own_atlas",
    "own_atlas",
    "own_atlas_volume",
    "own_deformation",
    "own_deformation_path",
    "own_regions_from",
    "regions_of_atlas",
    "write_regions",
]

PREPARED = "prepared volume"
"""What the records of a subject's places call the volume that they are of."""


def regions_of_atlas(derivatives: Path, atlas: str = HCPMMP) -> tuple[Region, ...]:
    """Read which regions an atlas has.

    Raises
    ------
    UserError
        It is not HCP-MMP, and no stage has written its table.
    """
    if atlas == HCPMMP:
        return hcpmmp_regions()
    path = dseg_table_path(derivatives, atlas)
    if not path.is_file():
        msg = (
            f"{path} must name the regions of {atlas}, it is not there; give the atlas' files "
            f"with --atlas, or run 'hemitwin atlas' with it"
        )
        raise UserError(msg)
    return _read_table(path)


def _read_table(path: Path) -> tuple[Region, ...]:
    with reading(path, "run 'hemitwin atlas' again, or delete it where it is of an earlier one"):
        return read_dseg_table(path)


def write_regions(derivatives: Path, atlas: str, regions: tuple[Region, ...]) -> None:
    """Write the table of an atlas' regions, where it is not there yet.

    Raises
    ------
    UserError
        Another table of that name is there.
    """
    path = dseg_table_path(derivatives, atlas)
    known = regions if not path.exists() else _read_table(path)
    reserved = hcpmmp_regions() if atlas == HCPMMP else regions
    named = [(region.index, region.name) for region in regions]
    for other in (known, reserved):
        if [(one.index, one.name) for one in other] != named:
            msg = (
                f"an atlas called {atlas} must have the same regions everywhere, {path.name} of "
                f"{path.parent} has others; give it another name (--atlas-name), or take another "
                f"folder"
            )
            raise UserError(msg)
    # Partners, colours and the like may have been mended since.
    if not path.exists() or known != regions:
        save_dseg_table(path, regions)


def own_atlas_volume(case: Case, derivatives: Path, atlas: str = HCPMMP) -> Path | None:
    """Name a subject's own regions on the prepared grid, where they are of this volume."""
    path = aligned_atlas_path(case, derivatives, atlas)
    return None if _of_this_volume(case, path) is None else path


def own_atlas(case: Case, derivatives: Path, atlas: str = HCPMMP) -> Parcellation | None:
    """Read a subject's own regions on the prepared grid, where `build_atlases` wrote them."""
    path = own_atlas_volume(case, derivatives, atlas)
    if path is None:
        return None
    labels, affine = load_labels(path)
    return Parcellation(labels, affine, regions_of_atlas(derivatives, atlas), TEMPLATE_SPACE)


def has_own_atlas(case: Case, derivatives: Path) -> bool:
    """Tell whether `build_atlases` has written HCP-MMP regions on the scan's own grid."""
    return _own_regions(case, derivatives) is not None


def own_regions_from(case: Case, derivatives: Path, atlas: str = HCPMMP) -> str | None:
    """Say how a subject's own regions were found; None where there are none."""
    content = _of_this_volume(case, aligned_atlas_path(case, derivatives, atlas))
    return None if content is None else str(content["Regions"])


def own_deformation(case: Case, derivatives: Path) -> Deformation | None:
    """Read the deformation that `build_atlases` wrote, where the template was registered."""
    path = own_deformation_path(case, derivatives)
    return None if path is None else load_deformation(path)


def own_deformation_path(case: Case, derivatives: Path) -> Path | None:
    """Name the deformation that belongs to a subject's own regions, where there is one."""
    path = deformation_path(case, derivatives)
    content = _of_this_volume(case, path)
    labels = _own_regions(case, derivatives)
    if content is None:
        return None
    # A later run may have registered anew, with another mask, for another atlas.
    if labels is not None and labels["DeformationKey"] not in {None, content["Key"]}:
        return None
    return path


def _own_regions(case: Case, derivatives: Path) -> dict[str, Any] | None:
    """Read what is said of the regions on the scan's own grid."""
    aligned = aligned_atlas_path(case, derivatives)
    return _of_this_volume(case, native_atlas_path(case, derivatives), sidecar_of(aligned))


def _of_this_volume(case: Case, path: Path, sidecar: Path | None = None) -> dict[str, Any] | None:
    """Read a result's sidecar, if it is whole and of the prepared volume as it is now."""
    content = read_product(path, sidecar) or read_product(path)
    if content is None:
        return None
    prepared = recorded_inputs(content).get(PREPARED, content.get("PreparedSHA256"))
    return content if prepared == content_digest(case.scan) else None
