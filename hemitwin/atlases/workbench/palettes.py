"""How Connectome Workbench colours a map: written into the map's own metadata."""

import xml.etree.ElementTree as ET
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

__all__ = ["Palette", "relevance_palette"]


@dataclass(frozen=True)
class Palette:
    """A colour scale with a threshold, symmetric about zero.

    Attributes
    ----------
    maximum : float
        Value (and minus value) at which the colours end.
    threshold : float
        Values between minus and plus this one are not shown.
    name : str
        One of Workbench's palettes.
    signed : bool
        Whether negative values are shown.
    """

    maximum: float
    threshold: float = 0.0
    name: str = "ROY-BIG-BL"
    signed: bool = True

    def __post_init__(self) -> None:
        """Check the range."""
        if not 0 <= self.threshold < self.maximum < np.inf:
            msg = (
                "palette needs 0 <= threshold < maximum, "
                f"got {self.threshold} and {self.maximum}; see relevance_palette"
            )
            raise ValueError(msg)

    def to_element(self) -> ET.Element:
        """Build Workbench's `PaletteColorMapping` element."""
        low, high = self.threshold, self.maximum
        fields = {
            "ScaleMode": "MODE_USER_SCALE",
            "AutoScalePercentageValues": "98.0 2.0 2.0 98.0",
            "UserScaleValues": f"{-high:.9g} {-low:.9g} {low:.9g} {high:.9g}",
            "PaletteName": self.name,
            "InterpolatePalette": "true",
            "DisplayPositiveData": "true",
            "DisplayZeroData": "false",
            "DisplayNegativeData": str(self.signed).lower(),
            "ThresholdTest": "THRESHOLD_TEST_SHOW_OUTSIDE",
            "ThresholdType": "THRESHOLD_TYPE_NORMAL" if low else "THRESHOLD_TYPE_OFF",
            "ThresholdFailureInGreen": "false",
            "ThresholdNormalValues": f"{-low:.9g} {low:.9g}",
            "ThresholdMappedValues": f"{-low:.9g} {low:.9g}",
            "ThresholdMappedAvgAreaValues": f"{-low:.9g} {low:.9g}",
            "ThresholdDataName": "",
            "ThresholdRangeMode": "PALETTE_THRESHOLD_RANGE_MODE_FILE",
        }
        element = ET.Element("PaletteColorMapping", Version="1")
        for tag, text in fields.items():
            ET.SubElement(element, tag).text = text
        return element

    def to_xml(self) -> str:
        """Write the element as GIFTI and CIFTI metadata hold it."""
        return ET.tostring(self.to_element(), encoding="unicode")


def relevance_palette(
    values: Float[np.ndarray, "..."], *, percentile: float = 99.5, threshold_share: float = 0.1
) -> Palette:
    """Choose a scale for signed relevance: red-yellow for, blue for against.

    Parameters
    ----------
    values : array of float
        The map. Zeros (background) are left out of the percentile.
    percentile : float
        Of the absolute values, where the colours end.
    threshold_share : float
        Share of that value below which nothing is shown.

    Returns
    -------
    Palette
        A map of zeros only is given the scale 0..1.

    Examples
    --------
    >>> relevance_palette(np.array([0.0, -2.0, 2.0])).maximum
    2.0
    """
    magnitude = np.abs(values[values != 0])
    maximum = float(np.percentile(magnitude, percentile)) if magnitude.size else 1.0
    return Palette(maximum, threshold_share * maximum)
