"""What one case's exported files are made from, and how that is told in their sidecars."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hemitwin.atlases import DataFile, Palette, hcpmmp_atlas, relevance_palette
from hemitwin.pipeline.explanation.map_files import read_audit, read_relevance
from hemitwin.pipeline.exports.config import ExportConfig
from hemitwin.pipeline.exports.render import find_workbench
from hemitwin.pipeline.exports.shared_atlas import SharedAtlas
from hemitwin.pipeline.preparation.native_space import NativeSpace
from hemitwin.pipeline.regions.atlas_files import has_own_atlas, own_deformation_path
from hemitwin.pipeline.regions.surface_set import native_surfaces
from hemitwin.pipeline.stage.bids import Case
from hemitwin.pipeline.stage.dataset import provenance
from hemitwin.pipeline.stage.names import (
    map_desc,
    native_atlas_path,
    relations_path,
    relevance_path,
)
from hemitwin.pipeline.stage.records import Record, content_digest
from hemitwin.pipeline.stage.sides import side_is_guess
from hemitwin.transforms import Scan

__all__ = ["ExportMaterial", "export_record", "relations_file"]


@dataclass(frozen=True, eq=False)
class ExportMaterial:
    """All that one case's files are made from.

    Parameters
    ----------
    case : Case
        Whose they are.
    out : Path
        The derivatives' folder.
    desc : str
        The map's ``desc`` entity.
    relevance : Scan
        In template space.
    native : NativeSpace
        The way to the scan.
    palette : Palette
        Of the map as a whole.
    shared : SharedAtlas
        Files of the atlas.
    config : ExportConfig
        Settings.
    """

    case: Case
    out: Path
    desc: str
    relevance: Scan
    native: NativeSpace
    palette: Palette
    shared: SharedAtlas
    config: ExportConfig

    @classmethod
    def of(
        cls, case: Case, derivatives: Path, shared: SharedAtlas, desc: str, config: ExportConfig
    ) -> "ExportMaterial":
        """Read one case's map and the way to its scan.

        Raises
        ------
        CaseError
            The map has no audit, or the prepared volume's sidecar is missing.
        """
        relevance = read_relevance(case, derivatives, desc)
        return cls(
            case=case,
            out=derivatives,
            desc=map_desc(case, desc),
            relevance=relevance,
            native=NativeSpace.of(case, "export"),
            palette=relevance_palette(relevance.data),
            shared=shared,
            config=config,
        )

    @property
    def native_space(self) -> str:
        """The ``space`` entity of the scan's own space."""
        return self.case.modality

    @property
    def map_name(self) -> str:
        """What Workbench calls the map."""
        return f"{self.case.name} relevance"

    @property
    def relevance_file(self) -> DataFile:
        """The map in template space."""
        return DataFile(relevance_path(self.case, self.out, self.desc))

    @property
    def metadata(self) -> dict[str, str]:
        """Say in Workbench's words, within the files, what made them from what."""
        smooth = self.config.smooth_mm
        width = "" if smooth is None else f" --smooth-mm {smooth:g}"
        return {
            "ProgramProvenance": f"HemiTwin {provenance()['packages']['hemitwin']}",
            "Provenance": f"hemitwin export --mapping {self.config.mapping}{width}",
            "ParentProvenance": self.relevance_file.path.name,
        }

    def path(self, tail: str) -> Path:
        """Name one of the case's results."""
        return self.case.path(self.out, tail)

    def sidecar(self, description: str, **details: object) -> dict[str, Any]:
        """Say what a file holds and what it was made from."""
        return {
            "Description": description,
            "Sources": [f"bids::{self.relevance_file.path.relative_to(self.out).as_posix()}"],
            **details,
            "SideIsGuess": side_is_guess(self.case),
            "Smoothing_FWHM_mm": self.config.smooth_mm,
            "GeneratedBy": provenance(),
        }


def export_record(
    case: Case, derivatives: Path, shared: SharedAtlas, desc: str, config: ExportConfig
) -> Record:
    """Return what decides one case's files.

    Raises
    ------
    CaseError
        As for `ExportMaterial.of`.
    """
    read_audit(case, derivatives, desc)
    named = map_desc(case, desc)
    native = NativeSpace.of(case, "export")
    inputs = {
        "map": relevance_path(case, derivatives, named),
        "prepared volume": case.scan,
        "scan": native.scan,
        "matches": relations_file(case, derivatives),
        "regions": native_atlas_path(case, derivatives)
        if has_own_atlas(case, derivatives)
        else None,
        "deformation": own_deformation_path(case, derivatives),
        **{path.name: path for path, _ in native_surfaces(case, derivatives)},
    }
    return Record(
        "export",
        computation=2,
        inputs={name: path for name, path in inputs.items() if path and path.is_file()},
        settings={
            "desc": named,
            "side_is_guess": side_is_guess(case),
            **config.model_dump(),
            "renderer": config.render and find_workbench() is not None,
            "native_from_template": native.from_template.tolist(),
            "atlas": hcpmmp_atlas().digest,
            "surfaces": sorted(content_digest(file.path) for file in shared.inflated),
        },
    )


def relations_file(case: Case, derivatives: Path) -> Path:
    """Name what `relate` writes of a subject, which belongs to it whichever map is exported."""
    return relations_path(case, derivatives).with_suffix(".pconn.nii")
