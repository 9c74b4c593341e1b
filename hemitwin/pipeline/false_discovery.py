"""Many p values at once: which share of what is called a finding is expected to be none."""

import numpy as np
from jaxtyping import Float
from scipy.stats import false_discovery_control

__all__ = ["false_discovery_rates"]


def false_discovery_rates(p_values: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
    """Adjust p values for their number by the method of Benjamini and Hochberg.

    Parameters
    ----------
    p_values : (n,) float
        Of all comparisons; NaN where there is none: it stays, and does not count.

    Returns
    -------
    (n,) float
        The q value of each (Benjamini and Hochberg 1995,
        doi:10.1111/j.2517-6161.1995.tb02031.x).

    Examples
    --------
    >>> false_discovery_rates(np.array([0.01, np.nan, 0.04])).tolist()
    [0.02, nan, 0.04]
    """
    found = np.full(len(p_values), np.nan)
    known = ~np.isnan(p_values)
    if known.any():
        found[known] = false_discovery_control(p_values[known])
    return found
