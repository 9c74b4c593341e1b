"""The 379 regions: names, sides, homotopic partners and cortices."""

import csv
import functools
from dataclasses import dataclass
from importlib import resources

import numpy as np

from hemitwin.atlases.hcp_files import hcp_file
from hemitwin.atlases.region_names import partner_name, side_of_name

__all__ = ["Region", "hcpmmp_regions"]


@dataclass(frozen=True)
class Region:
    """One named place.

    Attributes
    ----------
    index : int
        Its number in label volumes written by this package; 0 is no region. Numbers differ
        between editions of the atlas: match regions by name, never by number.
    name : str
        For example "L_V1" or "thalamus_left".
    hemisphere : str
        "L", "R" or "midline"; the last also of regions that have both sides.
    partner : str or None
        Name of the homotopic region on the other side.
    cortex : str or None
        One of the 22 cortices of the HCP-MMP 1.0; None below the cortex, and in other atlases.
    color : str
        "#rrggbb".
    network : str or None
        One of the 12 networks of Cole and Anticevic; None below the cortex, where a structure
        belongs to several.
    """

    index: int
    name: str
    hemisphere: str
    partner: str | None
    cortex: str | None
    color: str
    network: str | None = None

    @property
    def rgba(self) -> tuple[float, float, float, float]:
        """The colour as four numbers in 0..1, opaque."""
        red, green, blue = (int(self.color[i : i + 2], 16) / 255 for i in (1, 3, 5))
        return red, green, blue, 1.0


@functools.cache
def hcpmmp_regions() -> tuple[Region, ...]:
    """List the 360 areas of the HCP-MMP 1.0 and the 19 subcortical structures, by index 1-379.

    Left areas are 1-180 and right areas 181-360 here; the official CIFTI file has them the other
    way round. `diencephalon_left` and `_right` are the ventral diencephalon, not the hypothalamus.

    Returns
    -------
    tuple of Region
        180 cortical and 9 subcortical pairs, and the brain stem, which has no partner.

    References
    ----------
    Glasser et al. (2016), A multi-modal parcellation of human cerebral cortex. Nature 536.
    Networks: Ji et al. (2019), doi:10.1016/j.neuroimage.2018.10.006.

    Examples
    --------
    >>> regions = hcpmmp_regions()
    >>> len(regions), regions[0].name, regions[0].partner, regions[-1].partner
    (379, 'L_V1', 'R_V1', None)
    """
    with np.load(hcp_file("mmp_1.0.npz"), allow_pickle=False) as archive:
        ids, names, rgba = (archive[key] for key in ("ids", "labels", "rgba"))
    cortices, networks = _cortices(), _networks()
    return tuple(
        Region(
            index=int(index),
            name=str(name),
            hemisphere=side_of_name(str(name)),
            partner=partner_name(str(name)),
            cortex=cortices.get(str(name)),
            color="#" + "".join(f"{round(255 * float(c)):02x}" for c in color[:3]),
            network=networks.get(int(index)),
        )
        for index, name, color in zip(ids, names, rgba, strict=True)
        if index > 0
    )


def _networks() -> dict[int, str]:
    """Name the network that holds each area: the networks are made of whole areas."""
    with (
        np.load(hcp_file("mmp_1.0.npz"), allow_pickle=False) as areas,
        np.load(hcp_file("ca_network_1.1.npz"), allow_pickle=False) as networks,
    ):
        names = dict(zip(networks["ids"].tolist(), networks["labels"].tolist(), strict=True))
        pairs = np.unique(np.stack([areas["map_all"], networks["map_all"]]), axis=1).T.tolist()
    found = {area: {network for one, network in pairs if one == area} for area, _ in pairs}
    return {area: names[min(many)] for area, many in found.items() if len(many) == 1}


def _cortices() -> dict[str, str]:
    table = resources.files("hemitwin.atlases").joinpath("data/hcpmmp1_cortices.csv")
    rows = csv.DictReader(table.read_text(encoding="utf-8").splitlines())
    return {f"{row['hemi']}_{row['region']}": row["cortex"] for row in rows}
