"""What a user asks of the atlas: which regions, and what shall lead to them."""

from dataclasses import dataclass, field
from pathlib import Path

from hemitwin.atlases import HCPMMP, Atlas, hcpmmp_atlas
from hemitwin.pipeline.lesion_masks import MaskSource
from hemitwin.pipeline.stage.errors import UserError

__all__ = ["GLASSER", "AtlasRequest"]

GLASSER = "HCP-MMP1"
"""The annotation with the areas of the HCP-MMP 1.0."""


@dataclass(frozen=True, eq=False)
class AtlasRequest:
    """Which regions, and what shall lead to them.

    Parameters
    ----------
    atlas : Atlas
        The regions; HCP-MMP 1.0 by default.
    surfaces : Path, optional
        A FreeSurfer or FastSurfer ``SUBJECTS_DIR`` or an HCP tree: the subjects' own surfaces in
        place of a deformation. Those beside an HCP scan are taken without it.
    annotation : str, optional
        The areas of ``label/{lh,rh}.<annotation>.annot`` in place of the atlas, for example
        ``aparc``. Of ``HCP-MMP1``, where the files are there, without asking.
    hidden : MaskSource
        What is kept out of the registration.
    """

    atlas: Atlas = field(default_factory=hcpmmp_atlas)
    surfaces: Path | None = None
    annotation: str | None = None
    hidden: MaskSource = field(default_factory=MaskSource)

    def check(self) -> None:
        """Refuse what cannot be done.

        Raises
        ------
        UserError
            A folder is not there, or the request contradicts itself.
        """
        if self.surfaces is not None and not self.surfaces.is_dir():
            msg = f"the surfaces must be in a folder, got {self.surfaces}; check the path"
            raise UserError(msg)
        if self.annotation is not None and self.surfaces is None:
            msg = "an annotation must come with its surfaces; add --surfaces SUBJECTS_DIR"
            raise UserError(msg)
        if self.annotation is not None and self.atlas.name != HCPMMP:
            msg = "regions must come from one source; leave --atlas or --annotation out"
            raise UserError(msg)
        if self.annotation not in {None, GLASSER} and self.hidden != MaskSource():
            msg = (
                f"masks must stand with a registration, which the annotation {self.annotation} "
                f"does without; leave --lesion-masks and --anomaly-run out"
            )
            raise UserError(msg)
        self.hidden.check()
