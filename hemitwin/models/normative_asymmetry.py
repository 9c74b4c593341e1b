"""How the halves of brains without lesions differ at each place, and how far a pair is from it."""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from hemitwin._shapes import Batch
from hemitwin.models.masked import gaussian_kernel, mean_of_highest, smooth_inside

__all__ = ["AsymmetryNorms", "NormativeAsymmetry"]

_FINE_MM, _WIDE_MM = 2.0, 5.0
_FLOOR = 0.005
"""Added to the variance of the difference, in the images' own variance of 1."""
_WIDE_FLOOR = 0.02
"""Added to the variance after the second smoothing, as a share of its mean."""
_COMMON = 0.9
"""Share of the pairs with brain at a voxel, from which on it has a norm."""
_MODES = 8
_PAIRS_PER_MODE = 4
_FOLDS = 5
_LARGEST = 8.0
_NORMAL_MAD = 0.6745  # of a standard normal distribution

Grid = Float[Tensor, " *spatial"]
Known = Bool[Tensor, " pairs *spatial"]
Rows = Float[Tensor, "pairs voxels"]


class AsymmetryNorms(NamedTuple):
    """
    What pairs without lesions have in common.

    Parameters
    ----------
    mean, sd : (*spatial) float
        Of the difference; the SD is infinite where too few pairs have brain.
    modes : (k, V) float16
        Orthonormal rows over the voxels with a finite SD.
    wide_mean, wide_sd : (*spatial) float
        Of what remains, smoothed.
    own_limit : () float
        The largest scale of its own that a reference pair has.
    fine, wide : (n,) float
        Kernels of the two smoothings.
    """

    mean: Tensor
    sd: Tensor
    modes: Tensor
    wide_mean: Tensor
    wide_sd: Tensor
    own_limit: Tensor
    fine: Tensor
    wide: Tensor


class NormativeAsymmetry(nn.Module):
    """
    Map the difference of two halves in units of what is usual at each place: no training.

    The difference of the smoothed halves becomes a z value at each voxel; what brains have in
    common in it (their principal modes: ventricles, the course of sulci, a turned head) is taken
    out; what remains is smoothed and becomes a z value again. A lesion is small and in one place,
    so the modes keep little of it. The second norms are of pairs that their own modes were not
    taken from (cross-fitted): modes explain the pairs that they are made of too well.

    Parameters
    ----------
    norms : AsymmetryNorms
        Of pairs without lesions.

    Attributes
    ----------
    channels : int
        Of what `seen` gives: 4.

    References
    ----------
    A few modes and independent noise as a model of many variables: Tipping and Bishop 1999,
    doi:10.1111/1467-9868.00196.
    """

    channels = 4

    def __init__(self, norms: AsymmetryNorms) -> None:
        super().__init__()
        for name, value in norms._asdict().items():
            self.register_buffer(name, value)

    @property
    def norms(self) -> AsymmetryNorms:
        """What it was made of, where the module lies now."""
        return AsymmetryNorms(*(self.get_buffer(name) for name in AsymmetryNorms._fields))

    @classmethod
    def fit(
        cls,
        pairs: Iterable[tuple[Float[Tensor, " ..."], Float[Tensor, " ..."]]],
        *,
        voxel_mm: float,
        modes: int = _MODES,
    ) -> "NormativeAsymmetry":
        """
        Take the norms of pairs, which are read one at a time; a float32 volume of each is kept.

        Parameters
        ----------
        pairs : iterable of two (1, *spatial) float
            Left and mirrored right halves of brains without lesions, standardised, background 0,
            in one space.
        voxel_mm : float
            Edge of a voxel.
        modes : int
            At most so many are taken out, and one for four pairs.

        Raises
        ------
        ValueError
            When there are fewer than two pairs.
        """
        fine, wide = (gaussian_kernel(mm / voxel_mm) for mm in (_FINE_MM, _WIDE_MM))
        found = [_difference(left[None], right[None], fine) for left, right in pairs]
        if len(found) < 2:
            msg = f"norms must be of two pairs at least; got {len(found)}; add subjects"
            raise ValueError(msg)
        values, inside = (torch.cat([one[k] for one in found])[:, 0] for k in (0, 1))
        del found
        mean, variance = _moments(values, inside)
        common = inside.float().mean(dim=0) >= _COMMON
        sd = torch.where(common, (variance + _FLOOR).sqrt(), torch.inf)
        rows = ((values - mean) / sd * inside)[:, common]
        rest = torch.empty_like(rows)
        folds = torch.arange(len(rows)) % min(_FOLDS, len(rows))
        for fold in folds.unique():
            rest[folds == fold] = _without(rows[folds == fold], _modes(rows[folds != fold], modes))
        rest = _on_grid(rest, common, inside)
        smooth = smooth_inside(rest[:, None], inside[:, None], wide)[:, 0]
        wide_mean, variance = _moments(smooth, inside)
        floor = _WIDE_FLOOR * float(smooth[:, common].square().mean()) + torch.finfo().eps
        wide_sd = (variance + floor).sqrt()
        limit = _own_scale((smooth - wide_mean) / wide_sd, inside & common).max()
        leading = _modes(rows, modes).half()
        return cls(AsymmetryNorms(mean, sd, leading, wide_mean, wide_sd, limit, fine, wide))

    @classmethod
    def read(cls, tensors: Mapping[str, Tensor], prefix: str) -> "NormativeAsymmetry | None":
        """Take the norms out of a network's state, where it has some."""
        if f"{prefix}mean" not in tensors:
            return None
        return cls(AsymmetryNorms(*(tensors[prefix + name] for name in AsymmetryNorms._fields)))

    def exchanged(self) -> "NormativeAsymmetry":
        """Return the norms of the pairs with left and right exchanged."""
        norms = self.norms
        return NormativeAsymmetry(norms._replace(mean=-norms.mean, wide_mean=-norms.wide_mean))

    def seen(
        self, left: Batch, right: Float[Tensor, " ..."]
    ) -> Float[Tensor, " batch kinds *spatial"]:
        """
        Return the difference as a network sees it, at several widths and in several units.

        Parameters
        ----------
        left, right : (B, 1, *spatial) float
            On the norms' grid.

        Returns
        -------
        (B, 4, *spatial) float
            `map`; the same over the root of the pair's own scale, as in `score`; the z values
            before their second smoothing, at most 8 SDs either way: without the modes, and with
            them. A lesion with many neighbours to be mistaken for is told by what is about it.
        """
        values, known, rest, plain = self._map(left, right)
        scaled = values / self._scale(values, known).reshape(-1, *(1,) * (values.ndim - 1))
        fine = [one.clamp(-_LARGEST, _LARGEST) for one in (rest, plain)]
        return torch.cat([values, scaled, *fine], dim=1)

    def map(self, left: Batch, right: Float[Tensor, " ..."]) -> Batch:
        """
        Return where pairs differ more than is usual.

        Parameters
        ----------
        left, right : (B, 1, *spatial) float
            On the norms' grid.

        Returns
        -------
        (B, 1, *spatial) float
            Left less right as a z value, above 0 where the left is brighter; 0 where one half has
            no brain or there is no norm.

        Raises
        ------
        ValueError
            When the halves do not lie on the norms' grid.
        """
        return self._map(left, right)[0]

    def score(self, left: Batch, right: Float[Tensor, " ..."]) -> Float[Tensor, " batch"]:
        """
        Score pairs: high where they differ more, anywhere, than is usual.

        Parameters
        ----------
        left, right : (B, 1, *spatial) float
            On the norms' grid.

        Returns
        -------
        (B,) float
            Mean of the largest 0.5 % of the absolute z values, over the root of the pair's own
            scale (from the median): some brains are less even everywhere. No scale above the
            largest of the reference counts, or a large lesion would hide behind its own.
        """
        values, known, _, _ = self._map(left, right)
        scale = self._scale(values, known)
        return mean_of_highest(values[:, 0].abs(), known[:, 0]) / scale

    def _scale(
        self, values: Batch, known: Bool[Tensor, " batch channels *spatial"]
    ) -> Float[Tensor, " batch"]:
        scale = _own_scale(values, known).clamp(max=float(self.norms.own_limit)).sqrt()
        limited: Tensor = scale.clamp(min=torch.finfo().eps)
        return limited

    def _map(
        self, left: Batch, right: Float[Tensor, " ..."]
    ) -> tuple[Batch, Bool[Tensor, " batch channels *spatial"], Batch, Batch]:
        """Return `map`, where it is known, and the fine z values: without the modes, and with."""
        norms = self.norms
        if left.shape[1:] != (1, *norms.mean.shape) or left.shape != right.shape:
            grid = ", ".join(map(str, norms.mean.shape))
            msg = (
                f"halves must be (B, 1, {grid}), the norms' grid; "
                f"got {tuple(left.shape)} and {tuple(right.shape)}; prepare them as those that "
                f"the norms were taken from"
            )
            raise ValueError(msg)
        common = norms.sd.isfinite()
        with torch.autocast(left.device.type, enabled=False):
            values, inside = (one[:, 0] for one in _difference(left, right, norms.fine))
            plain = (values - norms.mean) / norms.sd * inside
            rest = _on_grid(_without(plain[:, common], norms.modes.to(plain)), common, inside)
            smooth = smooth_inside(rest[:, None], inside[:, None], norms.wide)[:, 0]
            found = (smooth - norms.wide_mean) / norms.wide_sd
        known = inside & common
        wide, rest, plain = ((one * known)[:, None] for one in (found, rest, plain))
        return wide, known[:, None], rest, plain


def _difference(
    left: Batch, right: Float[Tensor, " ..."], kernel: Float[Tensor, " n"]
) -> tuple[Batch, Bool[Tensor, " batch channels *spatial"]]:
    """Return left less right, both smoothed, and where both halves have brain."""
    both = [smooth_inside(half, half != 0, kernel) for half in (left, right)]
    return both[0] - both[1], (left != 0) & (right != 0)


def _moments(values: Grid, inside: Bool[Tensor, " ..."]) -> tuple[Tensor, Tensor]:
    """Return mean and variance over the pairs with brain at each voxel."""
    count = inside.sum(dim=0).clamp(min=2)
    mean = (values * inside).sum(dim=0) / count
    squares = ((values - mean).square() * inside).sum(dim=0)
    return mean, squares / (count - 1)


def _modes(rows: Rows, most: int) -> Float[Tensor, "k voxels"]:
    """Return the leading right singular vectors, from the small matrix of the pairs' products."""
    count = min(most, len(rows) // _PAIRS_PER_MODE)
    _, vectors = torch.linalg.eigh((rows @ rows.T).double())
    leading = vectors[:, len(rows) - count :].T.to(rows) @ rows
    return nn.functional.normalize(leading)


def _without(rows: Rows, modes: Float[Tensor, "k voxels"]) -> Rows:
    """Take the share of the modes out."""
    rest: Tensor = rows - (rows @ modes.T) @ modes
    return rest


def _on_grid(
    rows: Rows, common: Bool[Tensor, " *spatial"], inside: Bool[Tensor, " ..."]
) -> Float[Tensor, " pairs ..."]:
    """Put rows back where they are from; 0 where one half has no brain."""
    values = rows.new_zeros((len(rows), *common.shape))
    values[:, common] = rows
    return values * inside


def _own_scale(values: Float[Tensor, " ..."], known: Bool[Tensor, " ..."]) -> Tensor:
    """Return each map's SD as its median absolute value tells it."""
    return torch.stack(
        [
            one[chosen].abs().median() / _NORMAL_MAD
            for one, chosen in zip(values, known, strict=True)
        ]
    )
