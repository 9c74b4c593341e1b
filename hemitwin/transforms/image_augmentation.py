"""Random changes of 2D images, a whole batch at once."""

import math

import numpy as np
import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from hemitwin._frozen import Frozen

__all__ = ["ImageAugmentationConfig", "augment_images"]


class ImageAugmentationConfig(Frozen):
    """How strongly images are changed at random in training; 0 leaves a change out."""

    rotation_deg: float = Field(
        default=0.0, ge=0, le=180, description="Largest rotation, either way."
    )
    shift: float = Field(
        default=0.0, ge=0, lt=0.5, description="Largest shift, as a share of the image's side."
    )
    scaling: float = Field(
        default=0.0, ge=0, lt=0.5, description="Largest change of scale; 0.1 is 10 per cent."
    )
    contrast: float = Field(default=0.0, ge=0, description="SD of the random log gamma.")
    noise: float = Field(
        default=0.0, ge=0, description="Largest SD of added noise; white is 1 and black 0."
    )
    flip_left_right: bool = Field(
        default=False,
        description="Mirror every second image; only where left and right do not matter.",
    )


def augment_images(
    images: Float[Tensor, "batch channels rows columns"],
    config: ImageAugmentationConfig,
    rng: np.random.Generator,
) -> Float[Tensor, "batch channels rows columns"]:
    """Change each image of a batch in its own way.

    Parameters
    ----------
    images : (B, C, rows, columns) float
        From 0 (black, also what lies outside an image) to 1; not changed.
    config : ImageAugmentationConfig
        How strongly.
    rng : Generator
        Decides all.

    Returns
    -------
    (B, C, rows, columns) float
        Within 0 to 1.

    Examples
    --------
    >>> image = torch.tensor([[[[0.0, 1.0]]]])
    >>> turned = ImageAugmentationConfig(rotation_deg=180.0)
    >>> augment_images(image, turned, np.random.default_rng(0)).shape
    torch.Size([1, 1, 1, 2])
    """
    count = len(images)
    # All is drawn whatever is used: a change that is left out moves no other.
    angle, down, across, scale, gamma, noise, mirrored = rng.uniform(-1, 1, (7, count))
    changed = images
    moved = config.rotation_deg or config.shift or config.scaling or config.flip_left_right
    if moved:
        theta = _affines(
            angle * math.radians(config.rotation_deg),
            np.stack([across, down]) * 2 * config.shift,  # the grid's sides are 2 long
            1 + scale * config.scaling,
            np.where(config.flip_left_right & (mirrored > 0), -1.0, 1.0),
            aspect=images.shape[-2] / images.shape[-1],
        )
        grid = F.affine_grid(theta.to(images), list(images.shape), align_corners=False)
        changed = F.grid_sample(changed, grid, align_corners=False)
    if config.contrast:
        # Uniform of this width has an SD of 1.
        powers = torch.from_numpy(np.exp(gamma * math.sqrt(3) * config.contrast)).to(images)
        changed = changed.clamp(min=0) ** powers[:, None, None, None]
    if config.noise:
        spread = torch.from_numpy(np.abs(noise) * config.noise).to(images)
        grain = torch.from_numpy(rng.standard_normal(images.shape, dtype=np.float32)).to(images)
        changed = changed + spread[:, None, None, None] * grain
    return changed.clamp(0, 1)


def _affines(
    angle: Float[np.ndarray, " n"],
    shift: Float[np.ndarray, "2 n"],
    scale: Float[np.ndarray, " n"],
    mirror: Float[np.ndarray, " n"],
    *,
    aspect: float,
) -> Float[Tensor, "n 2 3"]:
    """Return where each output pixel is read, in coordinates from -1 to 1 (across, down)."""
    sine, cosine = np.sin(angle) / scale, np.cos(angle) / scale
    rows = [
        [cosine * mirror, -sine * aspect, shift[0]],
        [sine / aspect * mirror, cosine, shift[1]],
    ]
    return torch.from_numpy(np.moveaxis(np.array(rows), -1, 0).copy()).float()
