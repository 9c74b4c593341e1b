"""What each subject of an evaluation set gets."""

from pathlib import Path

from pydantic import Field, model_validator

from hemitwin._frozen import Frozen
from hemitwin.transforms import AsymmetryConfig, LesionConfig

__all__ = ["EvaluationSetConfig"]


class EvaluationSetConfig(Frozen):
    """What each subject gets, beside its volume as it is."""

    lesions_per_subject: int = Field(default=4, ge=0, description="Lesions, one a volume.")
    controls_per_subject: int = Field(
        default=1, ge=0, description="The first lesions again, blurred alike, without contrast."
    )
    shams_per_subject: int = Field(
        default=1, ge=0, description="The first lesions again, in both hemispheres."
    )
    asymmetries_per_subject: int = Field(
        default=0, ge=0, description="Atrophy, wide ventricles and the like, one a volume."
    )
    lesions: LesionConfig = Field(default=LesionConfig(), description="Their ranges.")
    asymmetries: AsymmetryConfig = Field(default=AsymmetryConfig(), description="Their ranges.")
    lesion_masks: Path | None = Field(default=None, description="Folder of real lesion masks.")
    seed: int = Field(default=0, ge=0, description="With a case's name it decides the draw.")

    @model_validator(mode="after")
    def _matched_ones_have_a_lesion(self) -> "EvaluationSetConfig":
        most = max(self.controls_per_subject, self.shams_per_subject)
        if most > self.lesions_per_subject:
            msg = (
                f"controls and shams repeat lesions, so there must be at least {most} "
                f"lesions_per_subject, got {self.lesions_per_subject}; raise it"
            )
            raise ValueError(msg)
        if set(self.lesions.roles) != {"lesion"}:
            msg = "lesions.roles must be lesions alone; set controls_per_subject and the like"
            raise ValueError(msg)
        return self

    @property
    def items(self) -> tuple[str, ...]:
        """What each subject gets, in the manifest's order."""
        counts = {
            "lesion": self.lesions_per_subject,
            "control": self.controls_per_subject,
            "sham": self.shams_per_subject,
            "asymmetry": self.asymmetries_per_subject,
        }
        drawn = (f"{kind}{k + 1:02d}" for kind, count in counts.items() for k in range(count))
        return ("healthy", *drawn)
