"""The atlas files that all subjects of a derivatives' folder share, written once."""

from dataclasses import dataclass
from pathlib import Path

from hemitwin.atlases import (
    BRAIN_SURFACES,
    TEMPLATE_SPACE,
    DataFile,
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
from hemitwin.pipeline.outputs import write_text

__all__ = ["SharedAtlas", "write_shared_atlas"]

_SIDES = ("L", "R")
_FOR_VIEWING = ("inflated", "very_inflated", "flat")

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
    """Write what is not there yet: surfaces, surface labels, dense labels, label volume.

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
    files: list[DataFile] = []
    inflated: list[DataFile] = []
    for side in _SIDES:
        for kind in (*BRAIN_SURFACES, *_FOR_VIEWING):
            # The group's surfaces in the space of the volumes; the others lie in no brain.
            space = f"_space-{TEMPLATE_SPACE}" if kind in BRAIN_SURFACES else ""
            name = kind.replace("_", "")
            path = folder / f"tpl-fsLR_hemi-{side}{space}_den-32k_{name}.surf.gii"
            if not path.exists():
                save_surface(path, load_fslr_surface(side, kind, space=TEMPLATE_SPACE))
            files.append(DataFile(path, side))
            if kind == "inflated":
                inflated.append(files[-1])
        labels = folder / f"tpl-fsLR_hemi-{side}_den-32k_atlas-HCPMMP1_dseg.label.gii"
        if not labels.exists():
            values = hcpmmp_surface_labels(side)
            save_surface_labels(labels, values, side, regions=hcpmmp_regions())
        files.append(DataFile(labels, side))
    files.extend((_dense_labels(folder), _volume(folder, cache)))
    write_text(folder / "ACKNOWLEDGEMENT.txt", _ACKNOWLEDGEMENT)
    return SharedAtlas(tuple(files), (inflated[0], inflated[1]))


def _dense_labels(folder: Path) -> DataFile:
    path = folder / "tpl-fsLR_den-91k_atlas-HCPMMP1_dseg.dlabel.nii"
    if not path.exists():
        save_dense_labels(path)
    return DataFile(path)


def _volume(folder: Path, cache: Path) -> DataFile:
    path = folder / f"tpl-{TEMPLATE_SPACE}_res-2_atlas-HCPMMP1_dseg.nii.gz"
    if not path.exists():
        save_labels_volume(path, hcpmmp_volume(*template_grid(2.0), cache_dir=cache))
    return DataFile(path)
