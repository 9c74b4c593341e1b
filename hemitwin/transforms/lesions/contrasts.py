"""How bright each pathology is in each modality, relative to the tissue around it.

The signs follow the literature: nested core, necrosis and oedema of gliomas, dark on T1w and
bright on T2w and FLAIR but for fluid (Menze et al. 2015, doi:10.1109/TMI.2014.2377694); subacute
haematoma, whose periphery is bright on T1w first, dark on T2w while its red cells hold together
(Gomori et al. 1985, doi:10.1148/radiology.157.1.4034983); white-matter lesions, bright on T2w and
FLAIR and somewhat dark on T1w, and cavities, like cerebrospinal fluid with a rim that is bright
on FLAIR (Wardlaw et al. 2013, doi:10.1016/S1474-4422(13)70124-8). The infarct is one between
subacute and chronic, before it turns into a cavity. The sizes are this project's choice: no
scanner's units are meant, and no study of a cohort stands behind them.
"""

from collections.abc import Mapping

from pydantic import Field

from hemitwin._frozen import Frozen
from hemitwin.transforms.lesions.spec import Modality, Pathology

__all__ = ["CONTRASTS", "LesionContrasts", "Range"]

Range = tuple[float, float]


class LesionContrasts(Frozen):
    """Ranges of relative change for the parts of a lesion."""

    core: Range = Field(description="Of the core.")
    shell: Range | None = Field(default=None, description="Of the outer shell, where it has one.")
    centre: Range | None = Field(default=None, description="Of the centre, where it has one.")


def _of(core: Range, shell: Range | None = None, centre: Range | None = None) -> LesionContrasts:
    return LesionContrasts(core=core, shell=shell, centre=centre)


CONTRASTS: Mapping[Pathology, Mapping[Modality, LesionContrasts]] = {
    "tumour": {
        "T1w": _of((-0.40, -0.25), (-0.30, -0.15), (-0.65, -0.50)),
        "T2w": _of((0.20, 0.60), (0.30, 0.80), (0.60, 1.20)),
        "FLAIR": _of((0.20, 0.50), (0.30, 0.70), (-0.30, 0.10)),
    },
    "infarct": {
        "T1w": _of((-0.55, -0.35), (-0.25, -0.10)),
        "T2w": _of((0.50, 1.10), (0.20, 0.50)),
        "FLAIR": _of((0.30, 0.70), (0.15, 0.40)),
    },
    "cavity": {
        "T1w": _of((-0.75, -0.60), (-0.20, -0.05)),
        "T2w": _of((0.90, 1.50), (0.20, 0.50)),
        "FLAIR": _of((-0.80, -0.55), (0.25, 0.60)),
    },
    "haemorrhage": {
        "T1w": _of((0.40, 0.75), (-0.30, -0.15), (-0.10, 0.20)),
        "T2w": _of((-0.50, -0.20), (0.30, 0.80), (-0.60, -0.30)),
        "FLAIR": _of((-0.40, -0.10), (0.30, 0.70), (-0.50, -0.20)),
    },
    "white_matter": {
        "T1w": _of((-0.45, -0.25)),
        "T2w": _of((0.30, 0.80)),
        "FLAIR": _of((0.30, 0.80)),
    },
}
"""Built-in ranges; generic lesions have theirs in `LesionConfig.contrast`."""
