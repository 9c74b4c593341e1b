"""The width of a Gaussian, as it is asked for and as it is computed with."""

import math

__all__ = ["sigma_of"]

_FWHM_PER_SIGMA = math.sqrt(8 * math.log(2))


def sigma_of(fwhm_mm: float) -> float:
    """Give the standard deviation of a Gaussian of this full width at half maximum.

    Raises
    ------
    ValueError
        When the width is not positive and finite.
    """
    if not 0 < fwhm_mm < math.inf:
        msg = f"fwhm_mm must be a positive number of millimetres, got {fwhm_mm}; 4 to 8 is usual"
        raise ValueError(msg)
    return fwhm_mm / _FWHM_PER_SIGMA
