"""The atlas files that all subjects of a derivatives' folder share, written once."""

from dataclasses import dataclass
from pathlib import Path

from hemitwin.atlases import (
    BRAIN_SURFACES,
    TEMPLATE_SPACE,
    DataFile,
    fslr_surface_file,
    hcpmmp_atlas,
    hcpmmp_regions,
    hcpmmp_surface_labels,
    hcpmmp_volume,
    load_fslr_surface,
    save_dense_labels,
    save_labels_volume,
    save_surface,
    save_surface_labels,
    template_grid,
)
from hemitwin.pipeline.stage.json_files import write_text
from hemitwin.pipeline.stage.records import Record

__all__ = ["SharedAtlas", "write_shared_atlas"]

_SIDES = ("L", "R")
_FOR_VIEWING = ("inflated", "very_inflated", "flat")
_DENSE = "tpl-fsLR_den-91k_atlas-HCPMMP1_dseg.dlabel.nii"
_VOLUME = f"tpl-{TEMPLATE_SPACE}_res-2_atlas-HCPMMP1_dseg.nii.gz"

_ACKNOWLEDGEMENT = """\
The surfaces in this folder are the group average of the Human Connectome Project's S1200 release.
They are used under the HCP Open Access Data Use Terms, which ask for this acknowledgement:

Data were provided [in part] by the Human Connectome Project, WU-Minn Consortium (Principal
Investigators: David Van Essen and Kamil Ugurbil; 1U54MH091657) funded by the 16 NIH Institutes and
Centers that support the NIH Blueprint for Neuroscience Research; and by the McDonnell Center for
Systems Neuroscience at Washington University.

The parcellation is HCP-MMP 1.0: Glasser MF et al. (2016). A multi-modal parcellation of human
cerebral cortex. Nature 536, 171-178. doi:10.1038/nature18933
"""


@dataclass(frozen=True)
class SharedAtlas:
    """Atlas files in the derivatives' folder.

    Parameters
    ----------
    files : tuple of DataFile
        Surfaces, labels and label volume, for the spec.
    inflated : (left, right) DataFile
        What surface scenes are drawn on.
    """

    files: tuple[DataFile, ...]
    inflated: tuple[DataFile, DataFile]


def write_shared_atlas(folder: Path, *, cache: Path) -> SharedAtlas:
    """Write surfaces, their labels, dense labels and label volume, unless they are there.

    Parameters
    ----------
    folder : Path
        ``atlas/`` in the derivatives' folder.
    cache : Path
        Where the label volume is kept between runs.

    Returns
    -------
    SharedAtlas
    """
    record = Record(
        "export",
        computation=2,
        inputs={name: fslr_surface_file(*name.split()) for name in _surfaces()},
        settings={"atlas": hcpmmp_atlas().digest},
    )
    shared = _shared_atlas(folder)

    def make() -> tuple[dict[str, str], list[Path]]:
        _write(folder, cache)
        said = "What all subjects share: the group's surfaces and the atlas"
        return {"Description": said}, [file.path for file in shared.files]

    record.ensure(folder / "atlas.json", make)
    return shared


def _surfaces() -> list[str]:
    return [f"{side} {kind}" for side in _SIDES for kind in (*BRAIN_SURFACES, *_FOR_VIEWING)]


def _shared_atlas(folder: Path) -> SharedAtlas:
    surfaces = [
        DataFile(_surface_path(folder, *name.split()), name.split()[0]) for name in _surfaces()
    ]
    labels = [DataFile(_labels_path(folder, side), side) for side in _SIDES]
    whole = [DataFile(folder / name) for name in (_DENSE, _VOLUME)]
    left, right = (DataFile(_surface_path(folder, side, "inflated"), side) for side in _SIDES)
    return SharedAtlas((*surfaces, *labels, *whole), (left, right))


def _surface_path(folder: Path, side: str, kind: str) -> Path:
    # The group's surfaces in the space of the volumes; the others lie in no brain.
    space = f"_space-{TEMPLATE_SPACE}" if kind in BRAIN_SURFACES else ""
    name = kind.replace("_", "")
    return folder / f"tpl-fsLR_hemi-{side}{space}_den-32k_{name}.surf.gii"


def _labels_path(folder: Path, side: str) -> Path:
    return folder / f"tpl-fsLR_hemi-{side}_den-32k_atlas-HCPMMP1_dseg.label.gii"


def _write(folder: Path, cache: Path) -> None:
    for name in _surfaces():
        side, kind = name.split()
        surface = load_fslr_surface(side, kind, space=TEMPLATE_SPACE)
        save_surface(_surface_path(folder, side, kind), surface)
    for side in _SIDES:
        values = hcpmmp_surface_labels(side)
        path = _labels_path(folder, side)
        save_surface_labels(path, values, side, regions=hcpmmp_regions())
    save_dense_labels(folder / _DENSE)
    save_labels_volume(folder / _VOLUME, hcpmmp_volume(*template_grid(2.0), cache_dir=cache))
    write_text(folder / "ACKNOWLEDGEMENT.txt", _ACKNOWLEDGEMENT)
