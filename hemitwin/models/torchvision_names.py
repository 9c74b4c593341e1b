"""Torchvision's names of a network's tensors, and ours of the same ones."""

import re
from collections.abc import Callable, Mapping
from types import MappingProxyType

from hemitwin.models.architectures import EncoderName

_Rules = tuple[tuple[re.Pattern[str], str | Callable[[re.Match[str]], str]], ...]

_PLACES = {"norm1": 0, "conv1": 2, "norm2": 3, "conv2": 5}
"""Of a dense layer's parts, in its sequence."""


def _dense_layer(match: re.Match[str]) -> str:
    block, layer, kind, number, rest = match.groups()
    return f"trunk.block{block}.{int(layer) - 1}.layers.{_PLACES[kind + number]}.{rest}"


def _transition(match: re.Match[str]) -> str:
    number, kind, rest = match.groups()
    return f"trunk.transition{number}.{0 if kind == 'norm' else 2}.{rest}"


_RESIDUAL: _Rules = (
    (re.compile(r"conv1\.(.+)"), r"trunk.stem.conv.\1"),
    (re.compile(r"bn1\.(.+)"), r"trunk.stem.norm.\1"),
    (re.compile(r"layer(\d+)\.(\d+)\.conv(\d)\.(.+)"), r"trunk.stage\1.\2.conv\3.\4"),
    (re.compile(r"layer(\d+)\.(\d+)\.bn(\d)\.(.+)"), r"trunk.stage\1.\2.norm\3.\4"),
    (re.compile(r"layer(\d+)\.(\d+)\.downsample\.([01])\.(.+)"), r"trunk.stage\1.\2.skip.\3.\4"),
)

_DENSE: _Rules = (
    (re.compile(r"features\.conv0\.(.+)"), r"trunk.stem.conv.\1"),
    (re.compile(r"features\.norm0\.(.+)"), r"trunk.stem.norm.\1"),
    # Files of the first releases write norm.1 for norm1.
    (
        re.compile(r"features\.denseblock(\d+)\.denselayer(\d+)\.(norm|conv)\.?([12])\.(.+)"),
        _dense_layer,
    ),
    (re.compile(r"features\.transition(\d+)\.(norm|conv)\.(.+)"), _transition),
    (re.compile(r"features\.norm5\.(.+)"), r"trunk.norm.\1"),
)

_RULES: Mapping[EncoderName, _Rules] = MappingProxyType(
    {
        **dict.fromkeys(("resnet18", "resnet34", "resnet50", "resnext50"), _RESIDUAL),
        **dict.fromkeys(("densenet121", "densenet169"), _DENSE),
    }
)

TORCHVISION: tuple[EncoderName, ...] = tuple(_RULES)
"""Encoders whose names in torchvision's files are known."""


def own_name(encoder: EncoderName, name: str) -> str | None:
    """
    Translate a name of torchvision's into that of the encoder's tensor.

    Parameters
    ----------
    encoder : str
        Name of the architecture.
    name : str
        Of a tensor in torchvision's state_dict of it, also as its first releases wrote them.

    Returns
    -------
    str or None
        Whether the encoder has a tensor of this name depends on its settings; None for a
        classifier's name and for any that torchvision does not write.

    Examples
    --------
    >>> own_name("resnet50", "layer1.0.downsample.0.weight")
    'trunk.stage1.0.skip.0.weight'
    >>> own_name("densenet121", "features.denseblock1.denselayer2.norm.1.bias")
    'trunk.block1.1.layers.0.bias'
    """
    for pattern, ours in _RULES.get(encoder, ()):
        if match := pattern.fullmatch(name):
            return match.expand(ours) if isinstance(ours, str) else ours(match)
    return None
