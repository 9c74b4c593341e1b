"""Normalisations: the spread is a constant, the mean stays linear (Ali et al. 2022)."""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from hemitwin.interpret.engine.propagation import Native, Propagation
from hemitwin.interpret.engine.rules import LinearLayer, propagate


def _affine(flow: Propagation, x: Tensor, weight: Tensor | None, bias: Tensor | None) -> Tensor:
    if weight is not None:
        x = x * weight
    return x if bias is None else flow.accounts.book(x, bias, "bias")


def _standardise(flow: Propagation, x: Tensor, dims: tuple[int, ...], eps: float) -> Tensor:
    with torch.no_grad():
        variance, mean = torch.var_mean(x, dims, correction=0, keepdim=True)
        scale = torch.rsqrt(variance + eps)
    if flow.config.norm_statistics == "all":
        return flow.accounts.book(x * scale, -mean * scale, "constant")
    return (x - x.mean(dims, keepdim=True)) * scale


def batch_norm(  # noqa: PLR0913, PLR0917 - torch's signature
    flow: Propagation,
    native: Native,
    /,
    x: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """Scale and shift by the running statistics, all constants; folded where that is asked for."""
    del native, momentum
    if training or running_mean is None or running_var is None:
        msg = (
            "BatchNorm must run on its stored statistics; it is in training mode or has none; "
            "call model.eval() before explaining"
        )
        raise ValueError(msg)
    scale = torch.rsqrt(running_var + eps)
    shift = -running_mean * scale
    if weight is not None:
        scale, shift = scale * weight, shift * weight
    if bias is not None:
        shift = shift + bias
    last = flow.last
    if flow.config.batch_norm == "folded" and last is not None and last.output is x:
        return propagate(_folded(last.layer, scale, shift), last.rule, flow.accounts)
    view = (1, -1, *(1,) * (x.ndim - 2))
    return flow.accounts.book(x * scale.view(view), shift.view(view), "bias")


def _folded(layer: LinearLayer, scale: Tensor, shift: Tensor) -> LinearLayer:
    """Make the norm part of the convolution before it."""
    axis = layer.output_axis
    if layer.weight.shape[axis] != len(scale):
        msg = (
            "a norm can be folded into a transposed convolution of one group only; this one has "
            "more; set batch_norm to affine"
        )
        raise NotImplementedError(msg)
    wide = [1] * layer.weight.ndim
    wide[axis] = -1
    along = (-1, *(1,) * (layer.weight.ndim - 2))
    bias = shift.view(along)
    if layer.bias is not None:
        bias = bias + layer.bias * scale.view(along)
    return replace(layer, weight=layer.weight * scale.view(wide), bias=bias)


def instance_norm(  # noqa: PLR0913, PLR0917 - torch's signature
    flow: Propagation,
    native: Native,
    /,
    x: Tensor,
    running_mean: Tensor | None = None,
    running_var: Tensor | None = None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    use_input_stats: bool = True,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """Standardise each channel of each sample, or use stored statistics."""
    if running_mean is not None or not use_input_stats:
        return batch_norm(
            flow,
            native,
            x,
            running_mean,
            running_var,
            weight,
            bias,
            use_input_stats,
            momentum,
            eps,
        )
    return _standardise_groups(flow, x, x.shape[1], weight, bias, eps)


def group_norm(  # noqa: PLR0913, PLR0917 - torch's signature
    flow: Propagation,
    native: Native,
    /,
    x: Tensor,
    num_groups: int,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
) -> Tensor:
    """Standardise groups of channels of each sample."""
    del native
    return _standardise_groups(flow, x, num_groups, weight, bias, eps)


def _standardise_groups(
    flow: Propagation,
    x: Tensor,
    groups: int,
    weight: Tensor | None,
    bias: Tensor | None,
    eps: float,
) -> Tensor:
    batch, channels = x.shape[:2]
    size = x[0, 0].numel()
    with torch.no_grad():
        value, mean, scale = torch.native_group_norm(
            x.contiguous(), weight, bias, batch, channels, size, groups, eps
        )
        mean, scale = (one.repeat_interleave(channels // groups, dim=1) for one in (mean, scale))
        gain = scale if weight is None else scale * weight
    wide = (batch, channels, *(1,) * (x.ndim - 2))
    constant, accounts = flow.config.norm_statistics == "all", flow.accounts

    # Not the flow itself: it knows the latest output, whose graph would then hold itself for ever.
    def back(gradient: Tensor) -> Tensor:
        sums = gradient.reshape(batch, channels, -1).sum(dim=2)
        if bias is not None:
            accounts.earn("bias", sums * bias)
        passed = gradient * gain.view(wide)
        if constant:
            accounts.earn("constant", -sums * mean * gain)
            return passed
        # The mean over a group is a function of the input: it hands on what its voxels took off.
        taken = (sums * gain).view(batch, groups, -1).mean(dim=2) / size
        taken = taken.repeat_interleave(channels // groups, dim=1)
        return passed - taken.view(wide)

    return accounts.rewrite(x, value, back)


def layer_norm(  # noqa: PLR0913, PLR0917 - torch's signature
    flow: Propagation,
    native: Native,
    /,
    x: Tensor,
    normalized_shape: Sequence[int],
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
) -> Tensor:
    """Standardise the last axes."""
    del native
    dims = tuple(range(-len(normalized_shape), 0))
    return _affine(flow, _standardise(flow, x, dims, eps), weight, bias)


def normalise(
    flow: Propagation,
    native: Native,
    /,
    x: Tensor,
    p: float = 2.0,
    dim: int = 1,
    eps: float = 1e-12,
) -> Tensor:
    """Divide by the norm, a constant."""
    del flow, native
    norm: Tensor = torch.linalg.vector_norm(x.detach(), p, dim, keepdim=True)
    return x / norm.clamp_min(eps)
