"""Which map is asked for, and what it is called."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from hemitwin.interpret import Method
from hemitwin.pipeline.explained_score import ScoreName

__all__ = [
    "METHOD_NAMES",
    "MapRequest",
]

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


@dataclass(frozen=True)
class MapRequest:
    """What is to be explained, and how.

    Parameters
    ----------
    method : str
        How the score is shared out.
    target : {'distance', 'logit', 'map', 'embedding'}, optional
        Which score; what the head ranks pairs by by default.
    lesion_seed : int, optional
        Inject the lesion that this seed draws before.
    check : bool
        Whether the checks of `check_map` are run.
    open_ledger : bool
        Whether a map whose ledger does not close is written all the same, under the name
        ``desc-lrpopen``.
    paired : bool
        Whether two brains are compared.
    """

    method: Method = "lrp"
    target: ScoreName | None = None
    lesion_seed: int | None = None
    check: bool = False
    open_ledger: bool = False
    paired: bool = False

    @property
    def desc(self) -> str:
        """The map's `desc` entity, for T1w.

        Examples
        --------
        >>> MapRequest().desc, MapRequest("occlusion", "map", lesion_seed=1).desc
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
