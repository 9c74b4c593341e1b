"""Which map is asked for, and what it is called."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Literal

from pydantic import Field

from hemitwin._frozen import Frozen
from hemitwin._names import Method

__all__ = ["METHOD_NAMES", "MapRequest", "ScoreName"]

METHOD_NAMES: Mapping[Method, str] = MappingProxyType(
    {
        "lrp": "layer-wise relevance propagation",
        "input_x_gradient": "input x gradient",
        "integrated_gradients": "integrated gradients",
        "grad_cam": "Grad-CAM",
        "occlusion": "occlusion",
        "ablation": "ablation of atlas regions",
    }
)
_TAGS: Mapping[Method, str] = MappingProxyType(
    {
        "lrp": "lrp",
        "input_x_gradient": "inputgradient",
        "integrated_gradients": "integratedgradients",
        "grad_cam": "gradcam",
        "occlusion": "occlusion",
        "ablation": "ablation",
    }
)

ScoreName = Literal["distance", "logit", "map", "embedding"]


class MapRequest(Frozen):
    """What is to be explained, and how."""

    method: Method = Field(default="lrp", description="How the score is shared out.")
    target: ScoreName | None = Field(
        default=None,
        description="Score to explain; map: the decoder's map where it is highest; embedding: the "
        "mean of its entries. By default what pairs are ranked by.",
    )
    lesion_seed: int | None = Field(
        default=None, ge=0, description="Inject the lesion that this seed draws, then explain."
    )
    check: bool = Field(
        default=False, description="Sanity checks and faithfulness, in the sidecar."
    )
    open_ledger: bool = Field(
        default=False,
        description="Write named subjects' maps that do not add up, too, as desc-lrpopen.",
    )
    paired: bool = Field(default=False, description="Whether two brains are compared.")

    @property
    def desc(self) -> str:
        """The map's `desc` entity, for T1w.

        Examples
        --------
        >>> MapRequest().desc, MapRequest(method="occlusion", target="map", lesion_seed=1).desc
        ('lrp', 'occlusionmaplesion')
        """
        lesion = "" if self.lesion_seed is None else "lesion"
        pair = "pair" if self.paired else ""
        # A name of its own: no later stage takes such a map unless it is asked for.
        ledger = "open" if self.open_ledger else ""
        return f"{_TAGS[self.method]}{self.target or ''}{lesion}{pair}{ledger}"

    def to_dict(self) -> dict[str, object]:
        """Return all that decides the map: checks do not, and an open ledger is in its name."""
        return {
            "method": self.method,
            "target": self.target,
            "lesion_seed": self.lesion_seed,
            "paired": self.paired,
        }
