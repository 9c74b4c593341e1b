"""Weights of another network as a start: from a local file, never from the network."""

import pickle
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from hemitwin._error_text import error_text
from hemitwin.models.architectures import EncoderName
from hemitwin.models.encoders.pooled import PooledEncoder
from hemitwin.models.encoders.trunks import StagedTrunk
from hemitwin.models.torchvision_names import TORCHVISION, own_name
from hemitwin.models.weights import read_tensors

_LEAST_SHARE = 0.5
_GREY, _COLOURS = 1, 3
_WRAPPERS = ("state_dict", "model_state_dict", "model")
_STATISTICS = ("running_mean", "running_var", "num_batches_tracked")
_CLASSIFIER = ("fc.", "classifier.")
_NO_CLASSIFIER = "a classifier has no place"
_BY_CHANNEL = frozenset({"batch", "instance"})
"""Norms that bring each channel to mean 0 and spread 1 by itself."""
_NORMS = (nn.modules.batchnorm._NormBase, nn.GroupNorm)  # noqa: SLF001
_UNREADABLE = (
    pickle.UnpicklingError,
    RuntimeError,
    EOFError,
    ValueError,
    LookupError,
    AttributeError,
    TypeError,
)


@dataclass(frozen=True)
class Transfer:
    """
    What an encoder took from a file.

    Attributes
    ----------
    taken : mapping of str to str
        The encoder's tensors that were set, and the file's name of each.
    left : mapping of str to str
        The file's tensors that were not taken, and why.
    fresh : tuple of str
        The encoder's tensors that stayed as they were drawn.
    convolutions : tuple of int
        How many of the trunk's convolutions were taken, and how many there are.
    first : str
        What was done to the first convolution, where its channels differed; else empty.
    """

    taken: Mapping[str, str]
    left: Mapping[str, str]
    fresh: tuple[str, ...]
    convolutions: tuple[int, int]
    first: str = ""

    def __str__(self) -> str:
        """Say it in one line."""
        some, every = self.convolutions
        parts = [
            f"{some} of {every} convolutions and {len(self.taken) - some} other tensors taken"
        ]
        if self.first:
            parts.append(f"first convolution: {self.first}")
        parts += [f"{n} left: {why}" for why, n in Counter(self.left.values()).items()]
        if self.fresh:
            parts.append(f"{len(self.fresh)} of the encoder's stay as drawn")
        return "; ".join(parts)


@dataclass(frozen=True, eq=False)
class _Source:
    """A file's tensors, each with the encoder's name of it (or None), and their norm."""

    tensors: Mapping[str, Tensor]
    names: Mapping[str, str | None]
    norm: str


@dataclass(frozen=True, eq=False)
class _Target:
    """An encoder's tensors, and which of them are of norms and of convolutions."""

    name: str
    norm: str
    tensors: Mapping[str, Tensor]
    norms: frozenset[str]
    convolutions: tuple[str, ...]

    @classmethod
    def of(cls, encoder: PooledEncoder) -> "_Target":
        norms: set[str] = set()
        convolutions: list[str] = []
        for name, module in encoder.named_modules():
            if isinstance(module, _NORMS):
                norms |= {f"{name}.weight", f"{name}.bias"}
            elif isinstance(module, nn.modules.conv._ConvNd):  # noqa: SLF001
                convolutions.append(f"{name}.weight")
        config, state = encoder.config, encoder.state_dict()
        return cls(config.name, config.norm, state, frozenset(norms), tuple(convolutions))


def transfer_weights(encoder: PooledEncoder, path: Path) -> Transfer:
    """
    Set an encoder's weights to those of a file, as far as they fit.

    With batch norm and three channels the trunks are torchvision's own: with all its weights a
    ResNet or ResNeXt computes the same maps for any image, a DenseNet for those whose sides are
    multiples of 32 (its poolings keep the odd voxel at the end of an axis, torchvision's drop
    it). What differs otherwise:

    - The first convolution of three channels is summed over them where the encoder has one: that
      is what the network computes of a grey image shown in all three. One of one channel is
      divided by three and repeated where the encoder has three, for the same sum. Files made
      from photographs expect images of mean 0 and spread 1.
    - Group norm takes neither running statistics, which it has none of, nor the scale and shift
      of a batch or instance norm: those follow channels that were brought to spread 1 one by one,
      while in a group each keeps its spread beside the others', which would count twice. The
      convolutions alone are taken. Instance norm brings each channel to spread 1, too, and takes
      scale and shift from batch norm. What was learnt with batch norm is kept whole by
      ``encoder.norm=batch`` alone.
    - A classifier has no place. The embedding of a run of our own is taken where it fits.

    Parameters
    ----------
    encoder : PooledEncoder
        Of `build_encoder`; changed in place, or not at all where the file is refused.
    path : Path
        A state_dict with torchvision's names (DenseNet-121 and 169; ResNet-18, 34, 50;
        ResNeXt-50) as ``.pth`` or ``.safetensors``, or the weights of a run of our own. A
        ``.pth`` is read without running any code in it.

    Returns
    -------
    Transfer
        What was taken, what not, and why.

    Raises
    ------
    FileNotFoundError
        When there is no such file.
    ValueError
        When it holds no tensors by name, or fits fewer than half of the trunk's convolutions.
    """
    source, target = _read(path, encoder.config.name), _Target.of(encoder)
    fitting: dict[str, Tensor] = {}
    taken: dict[str, str] = {}
    left: dict[str, str] = {}
    first = target.convolutions[0]
    for name, tensor in source.tensors.items():
        ours = source.names[name]
        reason = _misfit(target, source.norm, name, ours)
        if ours is None or reason:
            left[name] = reason
            continue
        own = target.tensors[ours]
        fitted = _with_channels(tensor, own) if ours == first else tensor
        if fitted.shape == own.shape:
            fitting[ours], taken[ours] = fitted, name
        else:
            left[name] = f"{tuple(tensor.shape)} does not fit {tuple(own.shape)}"
    every = target.convolutions
    found = Transfer(
        taken,
        left,
        fresh=tuple(name for name in target.tensors if name not in taken),
        convolutions=(sum(name in taken for name in every), len(every)),
        first=_told(source.tensors[taken[first]], target.tensors[first]) if first in taken else "",
    )
    _require_half(found, target.name, path)
    with torch.no_grad():
        for name, tensor in fitting.items():
            target.tensors[name].copy_(tensor)
    return found


def freeze(encoder: PooledEncoder, stages: int) -> tuple[str, ...]:
    """
    Hold an encoder's first stages as they are.

    Their weights take no gradient, and they stay in evaluation mode, also after `train`: batch
    norms keep the statistics they have.

    Parameters
    ----------
    encoder : PooledEncoder
        With a trunk of stages (no U-Net, no attention gates) where some are held. Changed in
        place.
    stages : int
        How many, the stem with the first; a stage is what gives a map of the pyramid. 0 sets all
        free again; as many as there are hold the whole trunk, and only the embedding is learnt.

    Returns
    -------
    tuple of str
        Names of the submodules that are held.

    Raises
    ------
    ValueError
        When the trunk has no stages, or not so many.

    Examples
    --------
    >>> from hemitwin.models import EncoderConfig, build_encoder
    >>> encoder = build_encoder(EncoderConfig(width=4, blocks=(1, 1), spatial_dims=2))
    >>> freeze(encoder, 1)
    ('trunk.stem', 'trunk.stage1')
    """
    trunk = encoder.get_submodule("trunk")
    if stages and not isinstance(trunk, StagedTrunk):
        msg = (
            f"an encoder must be a row of stages for some to be held; got {encoder.config.name} "
            f"({type(trunk).__name__}); take another encoder, or hold none"
        )
        raise ValueError(msg)
    levels = trunk.levels if isinstance(trunk, StagedTrunk) else ()
    if not 0 <= stages <= len(levels):
        msg = (
            f"stages to hold must be 0 to {len(levels)} for {encoder.config.name}; got "
            f"{stages}; hold fewer"
        )
        raise ValueError(msg)
    names = [name for name, _ in trunk.named_children()]
    if stages == 0:
        names = []
    elif stages < len(levels):
        names = names[: names.index(levels[stages - 1].layer) + 1]
    encoder.requires_grad_(requires_grad=True)
    encoder.frozen = tuple(f"trunk.{name}" for name in names)
    for name in encoder.frozen:
        encoder.get_submodule(name).requires_grad_(requires_grad=False)
    encoder.train(encoder.training)
    return encoder.frozen


def _read(path: Path, encoder: EncoderName) -> _Source:
    if not path.is_file():
        msg = f"weights must be a file; nothing at {path}; correct the path, none is downloaded"
        raise FileNotFoundError(msg)
    tensors, header = (
        read_tensors(path) if path.suffix == ".safetensors" else (_state_dict(path), None)
    )
    if header is not None:
        own = {name: tensor for name, tensor in tensors.items() if name.startswith("encoder.")}
        names = {name: name.removeprefix("encoder.") for name in own}
        return _Source(own, names, str(header["encoder"].get("norm")))
    if encoder not in TORCHVISION:
        msg = (
            f"encoder.name must be one whose names in torchvision's files are known "
            f"({', '.join(TORCHVISION)}); got {encoder} for {path}; take one of them, "
            "or the weights of a run of your own"
        )
        raise ValueError(msg)
    bare = {name.removeprefix("module."): tensor for name, tensor in tensors.items()}
    return _Source(bare, {name: own_name(encoder, name) for name in bare}, "batch")


def _state_dict(path: Path) -> dict[str, Tensor]:
    """Read tensors by name, also of a checkpoint that keeps other things beside them."""
    wanted = (
        "weights must be tensors by name (a state_dict) in a .pth or .safetensors file that needs "
        "no code to be read"
    )
    try:
        content: object = torch.load(path, map_location="cpu", weights_only=True)
    except _UNREADABLE as error:
        msg = f"{wanted}; {path} is not ({error_text(error)}); save model.state_dict()"
        raise ValueError(msg) from error
    for key in _WRAPPERS:
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
    entries = content.items() if isinstance(content, Mapping) else ()
    tensors = {str(name): one for name, one in entries if isinstance(one, Tensor)}
    if not tensors:
        msg = f"{wanted}; {path} holds a {type(content).__name__}; save model.state_dict()"
        raise ValueError(msg)
    return tensors


def _misfit(target: _Target, norm: str, name: str, ours: str | None) -> str:
    """Say why a tensor has no place in the encoder, shapes aside; nothing where it has one."""
    if ours is None:
        classifier = name.startswith(_CLASSIFIER)
        return _NO_CLASSIFIER if classifier else f"{target.name} has no such name"
    kind = ours.rpartition(".")[2]
    if kind in _STATISTICS and target.norm != "batch":
        return f"{target.norm} norm has no running statistics"
    if ours not in target.tensors:
        return f"this {target.name} has no such layer"
    alike = target.norm == norm or {target.norm, norm} <= _BY_CHANNEL
    if ours in target.norms and not alike:
        return f"scale and shift of {norm} norm mean another thing in {target.norm} norm"
    return ""


def _with_channels(weight: Tensor, own: Tensor) -> Tensor:
    """Bring a first convolution to the encoder's channels, where there is a way to."""
    if weight.ndim != own.ndim or {weight.shape[1], own.shape[1]} != {_GREY, _COLOURS}:
        return weight
    if own.shape[1] == _GREY:
        return weight.sum(dim=1, keepdim=True)
    return (weight / _COLOURS).repeat_interleave(_COLOURS, dim=1)


def _told(weight: Tensor, own: Tensor) -> str:
    if weight.shape == own.shape:
        return ""
    summed = own.shape[1] == _GREY
    return f"{'summed over' if summed else 'divided among'} {_COLOURS} channels"


def _require_half(found: Transfer, encoder: str, path: Path) -> None:
    some, every = found.convolutions
    if some >= _LEAST_SHARE * every:
        return
    misfits = [f"{name}: {why}" for name, why in found.left.items() if why != _NO_CLASSIFIER]
    examples = "; ".join(misfits[:2]) or "it lacks the others"
    msg = (
        f"at least half of the trunk's convolutions must come from the file; {some} of {every} of "
        f"{encoder} do from {path} ({examples}); set "
        "encoder.name, width, blocks, stem_stride and spatial_dims as in the network that it "
        "holds, or take another file"
    )
    raise ValueError(msg)
