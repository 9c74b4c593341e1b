"""What an asymmetry without lesion is, completely, and the ranges it is drawn from."""

from typing import Literal, get_args

from pydantic import Field, model_validator

from hemitwin._frozen import Frozen
from hemitwin.transforms.lesions.spec import Side

__all__ = ["AsymmetryConfig", "AsymmetryKind", "AsymmetrySpec"]

AsymmetryKind = Literal["atrophy", "expansion", "ventricle", "thinning", "brightening"]
Range = tuple[float, float]

_SIGNS = {"atrophy": -1, "expansion": 1, "ventricle": 1, "thinning": -1, "brightening": 1}


class AsymmetrySpec(Frozen):
    """One asymmetry: all that `inject_asymmetry` needs beside the volume (and the region)."""

    kind: AsymmetryKind = Field(
        description="atrophy, expansion, ventricle (wider), thinning or brightening of cortex."
    )
    side: Side = Field(description="Hemisphere; nothing crosses x = 0.")
    centre_mm: tuple[float, float, float] = Field(description="Centre in template RAS+ mm.")
    radius_mm: float = Field(gt=0, description="Radius of the ball or patch in template mm.")
    reach_mm: float = Field(gt=0, description="Where the deformation ends, in template mm.")
    thickness_mm: float = Field(
        default=4.0, gt=0, description="Depth of a cortex patch below the brain's surface."
    )
    volume_mm3: float = Field(gt=0, description="Native volume of what changes, before.")
    change_percent: float = Field(
        gt=-100, description="Change of that volume; of the brightness for brightening."
    )
    native_mm3_per_mm3: float = Field(
        default=1.0, gt=0, description="Native mm3 per template mm3: det of moving_from_fixed."
    )
    of_region: bool = Field(
        default=False, description="It is a region that was handed in, and must be again."
    )

    @model_validator(mode="after")
    def _sign_and_place_fit(self) -> "AsymmetrySpec":
        if self.change_percent * _SIGNS[self.kind] <= 0:
            sign = "above" if _SIGNS[self.kind] > 0 else "below"
            msg = (
                f"change_percent of kind {self.kind!r} must be {sign} 0, got "
                f"{self.change_percent:g}; change its sign"
            )
            raise ValueError(msg)
        if (self.centre_mm[0] < 0) != (self.side == "L") or self.centre_mm[0] == 0:
            msg = f"centre_mm must lie on side {self.side}, got {self.centre_mm}; mirror it"
            raise ValueError(msg)
        return self

    @property
    def is_abnormal(self) -> bool:
        """The label: every asymmetry is one."""
        return True

    @property
    def change_mm3(self) -> float:
        """Native volume gained (or lost, below 0); 0 for brightening."""
        if self.kind == "brightening":
            return 0.0
        return self.volume_mm3 * self.change_percent / 100


_SHARES: dict[AsymmetryKind, float] = dict.fromkeys(get_args(AsymmetryKind), 1.0)
_PERCENT: dict[AsymmetryKind, Range] = {
    "atrophy": (-30.0, -10.0),
    "expansion": (10.0, 30.0),
    "ventricle": (20.0, 60.0),
    "thinning": (-35.0, -15.0),
    "brightening": (5.0, 20.0),
}


class AsymmetryConfig(Frozen):
    """Shares and ranges that asymmetries are drawn from, uniformly."""

    kinds: dict[AsymmetryKind, float] = Field(default=_SHARES, description="Share of each kind.")
    percent: dict[AsymmetryKind, Range] = Field(
        default=_PERCENT, description="Change in per cent."
    )
    radius_mm: Range = Field(default=(10.0, 18.0), description="Of the ball or patch.")
    reach: float = Field(default=2.0, gt=1, description="Reach in radii.")
    thickness_mm: float = Field(default=4.0, gt=0, description="Depth of a cortex patch.")
    native_mm3_per_mm3: float = Field(
        default=1.0, gt=0, description="Native mm3 per template mm3 of the subject at hand."
    )

    @model_validator(mode="after")
    def _kinds_have_ranges(self) -> "AsymmetryConfig":
        drawn = [kind for kind, share in self.kinds.items() if share > 0]
        if not drawn or any(kind not in self.percent for kind in drawn):
            msg = (
                f"kinds must hold a share above 0, and percent a range for each; got {self.kinds} "
                f"and ranges for {sorted(self.percent)}; add what is missing"
            )
            raise ValueError(msg)
        for name, (low, high) in (("radius_mm", self.radius_mm), *self.percent.items()):
            if low > high:
                msg = f"{name} must be (low, high), got {(low, high)}; swap them"
                raise ValueError(msg)
        return self
