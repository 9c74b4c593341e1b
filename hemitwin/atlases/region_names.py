"""What a region's name says of its side, and the name of its partner."""

import re

__all__ = ["partner_name", "side_of_name"]

# L_V1, thalamus_left, ctx-lh-cuneus, Left-Thalamus, 7Networks_LH_Vis_1, Precentral_L
_OTHER = {"l": "r", "lh": "rh", "left": "right", "Left": "Right"}
_OTHER |= {left.upper(): right.upper() for left, right in _OTHER.items()}
_OTHER |= {right: left for left, right in _OTHER.items()}
_SIDE = re.compile(rf"(?<![^_\-. ])({'|'.join(_OTHER)})(?=$|[_\-. ])")


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
