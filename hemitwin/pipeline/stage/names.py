"""Names of what stages write of a case, and of a group."""

from pathlib import Path

from hemitwin.atlases import HCPMMP, TEMPLATE_SPACE
from hemitwin.pipeline.stage.bids import Case, Modality

__all__ = [
    "aligned_atlas_path",
    "anomaly_path",
    "asymmetry_path",
    "deformation_path",
    "dseg_table_path",
    "fit_table_path",
    "group_asymmetry_path",
    "map_desc",
    "native_atlas_path",
    "pair_table_path",
    "prepared_tail",
    "ranking_path",
    "region_table_path",
    "relations_path",
    "relevance_path",
    "surface_path",
    "surface_set_path",
]


def prepared_tail(modality: Modality, space: str = TEMPLATE_SPACE) -> str:
    """Return the end of a prepared volume's name, without its suffix.

    Examples
    --------
    >>> prepared_tail("T2w")
    'space-MNI152NLin2009aSym_desc-prepared_T2w'
    """
    return f"space-{space}_desc-prepared_{modality}"


def relevance_path(
    case: Case, derivatives: Path, desc: str, *, space: str = TEMPLATE_SPACE
) -> Path:
    """Return where a case's relevance volume lies, in the space that it was prepared in."""
    return case.path(derivatives, f"space-{space}_desc-{desc}_relevance.nii.gz")


def map_desc(case: Case, desc: str) -> str:
    """Name a map after the modality that it explains, unless that is T1w.

    Examples
    --------
    >>> map_desc(Case("sub-01", "sub-01", Path("x.nii"), modality="T2w"), "lrp")
    'lrpT2w'
    """
    return desc if case.modality == "T1w" else f"{desc}{case.modality}"


def native_atlas_path(case: Case, derivatives: Path, atlas: str = HCPMMP) -> Path:
    """Name a subject's label volume on the scan's own grid."""
    return case.path(derivatives, f"space-{case.modality}_atlas-{atlas}_dseg.nii.gz")


def aligned_atlas_path(case: Case, derivatives: Path, atlas: str = HCPMMP) -> Path:
    """Name a subject's label volume on the prepared volume's grid."""
    # Another modality's registration is another one: T1w has the plain name.
    desc = "" if case.modality == "T1w" else f"_desc-{case.modality}"
    return case.path(derivatives, f"space-{TEMPLATE_SPACE}_atlas-{atlas}{desc}_dseg.nii.gz")


def fit_table_path(case: Case, derivatives: Path, atlas: str = HCPMMP) -> Path:
    """Name the table that says of each region how well it is covered."""
    return case.path(derivatives, f"space-{case.modality}_atlas-{atlas}_desc-fit_quality.tsv")


def surface_path(case: Case, derivatives: Path, side: str, kind: str) -> Path:
    """Name a surface on the fsLR mesh over a subject's scan."""
    return case.path(derivatives, f"hemi-{side}_space-{case.modality}_den-32k_{kind}.surf.gii")


def deformation_path(case: Case, derivatives: Path) -> Path:
    """Name the field that brings the template to a subject's prepared volume."""
    to = "prepared" if case.modality == "T1w" else f"prepared{case.modality}"
    return case.path(derivatives, f"from-{TEMPLATE_SPACE}_to-{to}_mode-image_xfm.nii.gz")


def dseg_table_path(derivatives: Path, atlas: str = HCPMMP) -> Path:
    """Name the table of an atlas' regions."""
    return derivatives / f"atlas-{atlas}_dseg.tsv"


def region_table_path(case: Case, derivatives: Path, desc: str, atlas: str = HCPMMP) -> Path:
    """Return where a map's table of regions lies."""
    return _table_path(case, derivatives, desc, atlas, "")


def pair_table_path(case: Case, derivatives: Path, desc: str, atlas: str = HCPMMP) -> Path:
    """Return where a map's table of homotopic pairs lies."""
    return _table_path(case, derivatives, desc, atlas, "pairs")


def _table_path(case: Case, derivatives: Path, desc: str, atlas: str, kind: str) -> Path:
    named = f"desc-{map_desc(case, desc)}{kind}"
    return case.path(derivatives, f"space-{TEMPLATE_SPACE}_atlas-{atlas}_{named}_relevance.tsv")


def asymmetry_path(case: Case, derivatives: Path, desc: str) -> Path:
    """Return where a map's asymmetry table lies."""
    return _table_path(case, derivatives, desc, HCPMMP, "asymmetry")


def group_asymmetry_path(case: Case, derivatives: Path, desc: str) -> Path:
    """Return where the group's table lies, for maps of the case's modality."""
    named = map_desc(case, desc)
    return derivatives / f"group_atlas-{HCPMMP}_desc-{named}asymmetry_relevance.tsv"


def relations_path(
    case: Case, derivatives: Path, desc: str = "bilrp", *, space: str = TEMPLATE_SPACE
) -> Path:
    """Return where the table of matched regions lies; its ``.pconn.nii`` lies beside it."""
    named = map_desc(case, desc)
    return case.path(derivatives, f"space-{space}_atlas-{HCPMMP}_desc-{named}_relmat.tsv")


def surface_set_path(case: Case, derivatives: Path) -> Path:
    """Return where it is said what a subject's surfaces were made from."""
    return case.path(derivatives, f"space-{case.modality}_den-32k_surfaces.json")


def anomaly_path(case: Case, derivatives: Path) -> Path:
    """Return where the mask lies that a decoder draws of a lesion, on the prepared grid."""
    desc = map_desc(case, "anomaly")
    return case.path(derivatives, f"space-{TEMPLATE_SPACE}_desc-{desc}_mask.nii.gz")


def ranking_path(derivatives: Path, named: str, atlas: str = HCPMMP, *, figure: str = "") -> Path:
    """Return where a group's ranking lies: its table, or a figure of it over parcels.

    Parameters
    ----------
    derivatives : Path
        The folder with the maps.
    named : str
        The maps' ``desc`` entity, with its modality (`map_desc`).
    atlas : str
        By which they were parcellated.
    figure : str
        A column of the table; ``groups`` for the table of groups of regions.
    """
    ending = "tsv" if figure in {"", "groups"} else "pscalar.nii"
    return derivatives / f"group_atlas-{atlas}_desc-{named}ranking{figure}_relevance.{ending}"
