"""What a region's name says: its side, its partner, and whether it is a region at all."""

import re
from pathlib import Path

__all__ = ["is_no_area", "partner_name", "side_of_name", "sided_name"]

# L_V1, thalamus_left, ctx-lh-cuneus, Left-Thalamus, 7Networks_LH_Vis_1, Precentral_L
_OTHER = {"l": "r", "lh": "rh", "left": "right", "Left": "Right"}
_OTHER |= {left.upper(): right.upper() for left, right in _OTHER.items()}
_OTHER |= {right: left for left, right in _OTHER.items()}
_SIDE = re.compile(rf"(?<![^_\-. ])({'|'.join(_OTHER)})(?=$|[_\-. ])")
_BETWEEN = re.compile(r"[\s_]")
_NO_AREA = {"", "???", "unknown", "corpuscallosum"}
_NO_AREA_WITHIN = ("medialwall", "background")


def side_of_name(name: str) -> str:
    """Tell a region's side by its name.

    Parameters
    ----------
    name : str
        The first of its words (between ``_``, ``-``, ``.`` or blanks) that is l, lh or left, or
        their counterparts, in small letters or capitals, decides.

    Returns
    -------
    str
        "L", "R", or "midline" where no word does.

    Examples
    --------
    >>> [side_of_name(name) for name in ("L_V1", "ctx-rh-cuneus", "LEFT-THALAMUS", "brainStem")]
    ['L', 'R', 'L', 'midline']
    """
    found = _SIDE.search(name)
    return "midline" if found is None else found[1][0].upper()


def partner_name(name: str) -> str | None:
    """Name the region on the other side, whether there is one or not; None where no side is named.

    Examples
    --------
    >>> partner_name("7Networks_LH_Vis_1"), partner_name("brainStem")
    ('7Networks_RH_Vis_1', None)
    """
    found = _SIDE.search(name)
    if found is None:
        return None
    return name[: found.start()] + _OTHER[found[1]] + name[found.end() :]


def is_no_area(name: str) -> bool:
    """Tell whether a label of the cortex stands for what is no area.

    Parameters
    ----------
    name : str
        Read without its side, and whatever its case, blanks and underscores.

    Returns
    -------
    bool
        Of the medial wall, the background, the corpus callosum and the unknown.

    Examples
    --------
    >>> names = ("Background+FreeSurfer_Defined_Medial_Wall", "???", "L_unknown", "L_V1")
    >>> [is_no_area(name) for name in names]
    [True, True, True, False]
    """
    bare = _BETWEEN.sub("", _SIDE.sub("", name)).lower()
    return bare in _NO_AREA or any(word in bare for word in _NO_AREA_WITHIN)


def sided_name(name: str, side: str, path: Path) -> str:
    """Give the name of an area its side, where it does not tell it.

    Parameters
    ----------
    name : str
        As in the file.
    side : str
        "L" or "R": of the file.
    path : Path
        The file, for the message.

    Raises
    ------
    ValueError
        When the name is of the other side.

    Examples
    --------
    >>> [sided_name(name, "L", Path("lh.annot")) for name in ("cuneus", "7Networks_LH_Vis_1")]
    ['L_cuneus', '7Networks_LH_Vis_1']
    """
    told = side_of_name(name)
    if told not in {side, "midline"}:
        msg = (
            f"areas of {path} must be of side {side}, got {name!r}; give each side its own file, "
            f"or rename the area"
        )
        raise ValueError(msg)
    return name if told == side else f"{side}_{name}"
