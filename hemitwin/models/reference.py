"""What images of healthy people look like at each place, and how far an image is from it."""

from collections.abc import Iterable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from hemitwin._shapes import Batch
from hemitwin.models.masked import gaussian_kernel, mean_of_highest, smooth_inside

_FLOOR = 0.02
"""Added to the variance, in the images' own variance of 1: where nobody differs nothing counts."""
_COMMON = 0.9
"""Share of the reference images with brain at a voxel, from which on it has a deviation."""
_LARGEST = 6.0
_BUFFERS = ("mean", "sd", "kernel")


class Reference(nn.Module):
    """
    Add to each image its deviation from the reference images at each voxel, in their SDs.

    Convolutions are the same everywhere and know no place; what is common in one place (a bright
    voxel in white matter) is rare in another. In template space the deviation tells them apart.
    Images are smoothed before, inside the brain, since no two people's folds lie alike; and the
    brain's edge, where the largest deviations of healthy people are, has none.

    Parameters
    ----------
    mean, sd : (*spatial) float
        Of the smoothed reference images; the SD is infinite where too few of them have brain.
    kernel : (n,) float
        Of the smoothing, along each axis.

    Attributes
    ----------
    channels : int
        Of what it gives: 2.

    References
    ----------
    Outliers by voxel, smoothed: Seghier et al. 2008, doi:10.1016/j.neuroimage.2008.04.237.
    """

    channels = 2
    mean: Tensor
    sd: Tensor
    kernel: Tensor

    def __init__(
        self,
        mean: Float[Tensor, " *spatial"],
        sd: Float[Tensor, " *spatial"],
        kernel: Float[Tensor, " n"],
    ) -> None:
        super().__init__()
        for name, value in zip(_BUFFERS, (mean, sd, kernel), strict=True):
            self.register_buffer(name, value)

    @classmethod
    def fit(
        cls, images: Iterable[Float[Tensor, " channels *spatial"]], *, smooth_voxels: float = 1.5
    ) -> "Reference":
        """
        Take mean and SD over images, one at a time.

        Parameters
        ----------
        images : iterable of (1, *spatial) float
            Standardised, background 0, in one space.
        smooth_voxels : float
            SD of the Gaussian; 0 for none.

        Returns
        -------
        Reference
            Each voxel's moments are those of the images with brain there: nine tenths of them at
            least, else it has no deviation.

        Raises
        ------
        ValueError
            When there are fewer than two images.
        """
        kernel = gaussian_kernel(smooth_voxels)
        count, inside, total, squares = 0, *(torch.zeros(()) for _ in range(3))
        for image in images:
            values = smooth_inside(image[None], image[None] != 0, kernel)[0, 0].double()
            count, inside = count + 1, inside + (image[0] != 0)
            total, squares = total + values, squares + values.square()
        if count < 2:
            msg = f"a reference must have two images at least; got {count}; add subjects"
            raise ValueError(msg)
        known = inside.clamp(min=2)
        mean = total / known
        variance = (squares - known * mean.square()).clamp(min=0) / (known - 1) + _FLOOR
        sd = torch.where(inside >= max(2, _COMMON * count), variance.sqrt(), torch.inf)
        return cls(mean.float(), sd.float(), kernel)

    @classmethod
    def read(cls, tensors: dict[str, Tensor], prefix: str) -> "Reference | None":
        """Take the reference out of a network's state, where it has one."""
        if f"{prefix}mean" not in tensors:
            return None
        return cls(*(tensors[f"{prefix}{name}"] for name in _BUFFERS))

    def deviation(self, images: Batch) -> Batch:
        """
        Return how far images are from the reference, in its SDs.

        Parameters
        ----------
        images : (B, 1, *spatial) float
            On the reference's grid.

        Returns
        -------
        (B, 1, *spatial) float
            At most 6 SDs either way, 0 outside the brain and at its edge.

        Raises
        ------
        ValueError
            When the images do not lie on the reference's grid.
        """
        if images.shape[1:] != (1, *self.mean.shape):
            msg = (
                f"images must be (B, 1, {', '.join(map(str, self.mean.shape))}), the reference's "
                f"grid; got {tuple(images.shape)}; prepare them as those that it was taken from"
            )
            raise ValueError(msg)
        # In bf16 a hundredth of the intensity is lost, which is much of an SD where SDs are small.
        with torch.autocast(images.device.type, enabled=False):
            found = smooth_inside(images, images != 0, self.kernel) - self.mean
            found = found / self.sd
        bounded: Tensor = found.clamp(-_LARGEST, _LARGEST) * (images != 0)
        return bounded

    def asymmetry(
        self, left: Batch, right: Float[Tensor, " batch channels *spatial"]
    ) -> Float[Tensor, " batch"]:
        """
        Score pairs by their deviations alone: what a network must beat.

        Parameters
        ----------
        left, right : (B, 1, *spatial) float
            On the reference's grid.

        Returns
        -------
        (B,) float
            Mean over the 0.5 % of the voxels inside both whose deviations differ most.
        """
        differences = (self.deviation(left) - self.deviation(right)).abs()
        return mean_of_highest(differences, (left != 0) & (right != 0))

    def profile(self, images: Batch) -> Float[Tensor, "batch known"]:
        """
        Write each image's deviations as a row of mean 0 and length 1.

        Parameters
        ----------
        images : (B, 1, *spatial) float
            On the reference's grid.

        Returns
        -------
        (B, V) float
            Over the voxels that have a deviation: the product of two rows is the images'
            correlation, which is what a network that tells brains apart must beat.
        """
        rows = self.deviation(images)[:, 0, self.sd.isfinite()]
        return nn.functional.normalize(rows - rows.mean(dim=1, keepdim=True))

    def forward(self, images: Batch) -> Float[Tensor, " batch seen *spatial"]:
        """Return the images and their `deviation`, (B, 2, *spatial)."""
        return torch.cat([images, self.deviation(images)], dim=1)
