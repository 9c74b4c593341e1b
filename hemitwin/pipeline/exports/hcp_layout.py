"""Copies under the HCP's own names, for a case that came from an HCP tree."""

import shutil
from pathlib import Path

from hemitwin._atomic import atomic_path
from hemitwin.atlases import DataFile, write_spec
from hemitwin.pipeline.exports.material import ExportMaterial
from hemitwin.pipeline.exports.surfaces import ExportedSurfaces
from hemitwin.pipeline.exports.volumes import ExportedVolumes
from hemitwin.pipeline.stage.bids import sidecar_of
from hemitwin.pipeline.stage.json_files import read_json

__all__ = ["write_hcp_copies"]

_SCHEME = "hcp:"
_SPACE = "32k_fs_LR"


def write_hcp_copies(
    made: ExportMaterial, volumes: ExportedVolumes, surfaces: ExportedSurfaces
) -> tuple[Path, ...]:
    """Write one case's maps below ``hcp/`` as an HCP tree has them, to be laid over that tree.

    No name is one of the HCP's but those of the subject's own midthickness surfaces, which are
    copied byte by byte, so that the spec opens where the tree is not.

    Parameters
    ----------
    made : ExportMaterial
        Of the case.
    volumes, surfaces
        The files that were written.

    Returns
    -------
    tuple of Path
        Empty for a case from elsewhere.
    """
    content = read_json(sidecar_of(made.case.scan))
    source = str(content["Sources"][0])
    if not source.startswith(_SCHEME):
        return ()
    subject, space = source.removeprefix(_SCHEME).split("/")[:2]
    folder = made.out / "hcp" / subject / space
    meshes = folder / "fsaverage_LR32k"
    stem = f"{made.desc}_relevance"
    files = [_copy(volumes.relevance, folder / f"{stem}.nii.gz")]
    files += _copy_meshes(made, surfaces, meshes, subject, content.get("Surfaces"))
    for file in surfaces.metrics:
        name = f"{subject}.{file.hemisphere}.{stem}.{_SPACE}.shape.gii"
        files.append(_copy(file, meshes / name))
    files.append(_copy(surfaces.dense, meshes / f"{subject}.{stem}.{_SPACE}.dscalar.nii"))
    files.append(_copy(surfaces.parcels, meshes / f"{subject}.{stem}.HCPMMP1.pscalar.nii"))
    spec = meshes / f"{subject}.{stem}.{_SPACE}.wb.spec"
    write_spec(spec, files)
    return (*(file.path for file in files), spec)


def _copy_meshes(
    made: ExportMaterial,
    surfaces: ExportedSurfaces,
    folder: Path,
    subject: str,
    own: dict[str, str] | None,
) -> list[DataFile]:
    """Copy the subject's own surfaces, or else the group's over the scan under another name."""
    copies = []
    for file in surfaces.midthickness:
        side = file.hemisphere or ""
        path = made.case.scan.parent / (own or {}).get(side, "")
        if own and path.is_file():
            copies.append(_copy(DataFile(path, side), folder / path.name))
        else:
            name = f"{subject}.{side}.midthickness_S1200.{_SPACE}.surf.gii"
            copies.append(_copy(file, folder / name))
    return copies


def _copy(file: DataFile, target: Path) -> DataFile:
    with atomic_path(target) as temporary:
        shutil.copyfile(file.path, temporary)
    return DataFile(target, file.hemisphere)
