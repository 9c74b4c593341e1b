"""Siamese networks on disk: one safetensors file, the configs in its header."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from hemitwin._atomic import atomic_path
from hemitwin._error_text import error_text
from hemitwin.models.config import EncoderConfig, HeadConfig, InputConfig
from hemitwin.models.encoders.build import build_encoder
from hemitwin.models.encoders.local import LocalEncoder, LocalEncoderConfig
from hemitwin.models.normative_asymmetry import NormativeAsymmetry
from hemitwin.models.reference import Reference
from hemitwin.models.siamese import BuiltEncoder, SiameseNetwork, build_head

_HEADER = "hemitwin"  # one entry: safetensors does not keep the order of several


def save_weights(
    path: Path,
    siamese: SiameseNetwork,
    metadata: Mapping[str, str],
    head: HeadConfig | None = None,
) -> None:
    """
    Write weights and metadata, atomically.

    Parameters
    ----------
    path : Path
        File to write; its folder is made when it is missing.
    siamese : SiameseNetwork
        Network whose encoder came from `build_encoder` or `LocalEncoder.fit`.
    metadata : mapping of str to str
        Goes into the header and comes back from `load_weights`.
    head : HeadConfig, optional
        What the network's head was built from; the plain distance by default.

    Raises
    ------
    TypeError
        When the encoder carries no config and could not be rebuilt.
    """
    encoder = siamese.encoder
    if not isinstance(encoder, BuiltEncoder):
        msg = f"encoder must come from build_encoder; got {type(encoder).__name__}; rebuild it"
        raise TypeError(msg)
    header = {
        "encoder": encoder.config.model_dump(mode="json"),
        "head": (head or HeadConfig()).model_dump(mode="json"),
        "inputs": siamese.inputs.model_dump(mode="json"),
        "metadata": dict(metadata),
    }
    tensors = {name: t.detach().cpu().contiguous() for name, t in siamese.state_dict().items()}
    with atomic_path(path) as temporary:
        save_file(tensors, temporary, metadata={_HEADER: json.dumps(header, sort_keys=True)})


def load_weights(path: Path) -> tuple[SiameseNetwork, dict[str, str]]:
    """
    Read a network back.

    Parameters
    ----------
    path : Path
        File written by `save_weights`.

    Returns
    -------
    SiameseNetwork
        On the CPU, in evaluation mode.
    dict of str to str
        The metadata that was saved.

    Raises
    ------
    FileNotFoundError
        When there is no such file.
    ValueError
        When the file is damaged or was not written by `save_weights`.
    """
    if not path.is_file():
        msg = f"weights must be a file; nothing at {path}; train first or correct the path"
        raise FileNotFoundError(msg)
    tensors, header = read_tensors(path)
    if header is None:
        msg = f"weights must carry a {_HEADER!r} header; {path} has none; write by save_weights"
        raise ValueError(msg)
    encoder = _rebuild(header["encoder"])
    head = build_head(HeadConfig.model_validate(header.get("head", {})), encoder)
    norms = NormativeAsymmetry.read(tensors, "normative.")
    inputs = InputConfig.model_validate(header.get("inputs", {}))
    reference = Reference.read(tensors, "reference.")
    siamese = SiameseNetwork(encoder, head, reference, norms, inputs)
    siamese.load_state_dict(tensors)
    return siamese.eval(), header["metadata"]


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any] | None]:
    """
    Read a safetensors file, whoever wrote it.

    Parameters
    ----------
    path : Path
        The file.

    Returns
    -------
    dict of str to Tensor
        On the CPU.
    dict or None
        The header of `save_weights`; None in a file of another's.

    Raises
    ------
    ValueError
        When the file is damaged.
    """
    try:
        with safe_open(path, framework="pt") as file:
            raw = (file.metadata() or {}).get(_HEADER)
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        msg = (
            f"weights must be a whole safetensors file; {path} is not "
            f"({error_text(error)}); copy it again"
        )
        raise ValueError(msg) from error
    return tensors, None if raw is None else json.loads(raw)


def _rebuild(settings: Mapping[str, Any]) -> BuiltEncoder:
    """Build the encoder that the weights are of."""
    if settings["name"] == "local":
        return LocalEncoder(LocalEncoderConfig.model_validate(settings))
    return build_encoder(EncoderConfig.model_validate(settings))
