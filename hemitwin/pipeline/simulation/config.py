"""Which synthetic families are made, and where their members are alike."""

from pydantic import Field

from hemitwin._frozen import Frozen
from hemitwin.pipeline.stage.errors import UserError

__all__ = ["FamilyCounts", "FamilyPlan", "read_counts"]

_AREAS = ("V1", "V2", "4", "3b", "TGd", "TE2a", "PGi", "PFm", "OFC", "9m")


class FamilyCounts(Frozen):
    """How many families of each kind are made."""

    mz: int = Field(default=10, ge=0, description="Pairs of identical twins.")
    dz: int = Field(default=10, ge=0, description="Pairs of fraternal twins.")
    siblings: int = Field(default=5, ge=0, description="Pairs of siblings.")
    unrelated: int = Field(default=10, ge=0, description="People without relatives.")

    @property
    def text(self) -> str:
        """As `read_counts` reads it.

        Examples
        --------
        >>> FamilyCounts(mz=3, dz=0, siblings=0).text
        'mz=3,dz=0,siblings=0,unrelated=10'
        """
        return ",".join(f"{kind}={count}" for kind, count in self)


class FamilyPlan(Frozen):
    """Which families are made, and what their members share: what one asks for first."""

    families: FamilyCounts = Field(
        default=FamilyCounts(), description="How many pairs of each kind, and unrelated people."
    )
    regions: tuple[str, ...] = Field(
        default=_AREAS,
        min_length=1,
        description="Heritable HCP-MMP areas: V1 for both sides, L_V1 for one, cortex for all.",
    )
    heritability: float = Field(
        default=0.8, ge=0, le=1, description="Inherited share of the variance in these regions."
    )
    sites: int = Field(default=1, ge=1, description="Scanners; above 1 each looks its own way.")
    resolution_mm: float = Field(
        default=2.0, ge=0.5, le=8, description="Voxel size of the scans in mm."
    )
    seed: int = Field(default=0, ge=0, description="Same seed, same people.")


def read_counts(text: str) -> FamilyCounts:
    """Read ``mz=10,dz=10,siblings=5,unrelated=20``; what is not named is not made.

    Raises
    ------
    UserError
        A kind is unknown, a number is none, or nobody is made.

    Examples
    --------
    >>> read_counts("mz=3,unrelated=2")
    FamilyCounts(mz=3, dz=0, siblings=0, unrelated=2)
    """
    kinds = list(FamilyCounts.model_fields)
    counts = dict.fromkeys(kinds, 0)
    for part in text.split(","):
        kind, _, number = part.strip().partition("=")
        if kind not in counts or not number.isdecimal():
            msg = (
                f"families must look like mz=10,dz=10 with the kinds {', '.join(kinds)}, "
                f"got {part.strip()!r}"
            )
            raise UserError(msg)
        counts[kind] = int(number)
    if not any(counts.values()):
        msg = f"at least one person must be made, got {text!r}; set a number above 0"
        raise UserError(msg)
    return FamilyCounts(**counts)
