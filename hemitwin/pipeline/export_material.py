"""What one case's exported files are made from, and how that is told in their sidecars."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from hemitwin.atlases import DataFile, Palette, relevance_palette
from hemitwin.pipeline.bids import Case
from hemitwin.pipeline.case_sides import side_is_guess
from hemitwin.pipeline.map_request import map_desc, relevance_path
from hemitwin.pipeline.native_space import NativeSpace
from hemitwin.pipeline.outputs import provenance
from hemitwin.pipeline.parcellate import read_relevance
from hemitwin.pipeline.shared_atlas import SharedAtlas
from hemitwin.transforms import Scan

__all__ = ["ExportConfig", "ExportMaterial", "gather"]


class ExportConfig(BaseModel):
    """How relevance is brought to the surfaces, and what is drawn."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    mapping: Literal["trilinear", "ribbon"] = Field(
        default="trilinear",
        description="Read at the midthickness, or averaged from the white to the pial surface.",
    )
    smooth_mm: float | None = Field(
        default=None, gt=0, le=40, description="FWHM in mm; not smoothed by default."
    )
    render: bool = Field(default=False, description="Draw every scene.")


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


def gather(
    case: Case, derivatives: Path, shared: SharedAtlas, desc: str, config: ExportConfig
) -> ExportMaterial:
    """Read one case's map and the way to its scan.

    Raises
    ------
    CaseError
        The map has no audit, or the prepared volume's sidecar is missing.
    """
    relevance, _ = read_relevance(case, derivatives, desc)
    return ExportMaterial(
        case=case,
        out=derivatives,
        desc=map_desc(case, desc),
        relevance=relevance,
        native=NativeSpace.of(case, "export"),
        palette=relevance_palette(relevance.data),
        shared=shared,
        config=config,
    )
