"""Entries of a MONAI dictionary: a volume that knows its place, and the mask of its brain."""

from collections.abc import Hashable, Mapping

import torch
from jaxtyping import Bool
from monai.data.meta_tensor import MetaTensor
from torch import Tensor

from hemitwin._shapes import Volume

__all__ = ["mask_entry", "volume_entry", "with_values"]


def volume_entry(data: Mapping[Hashable, object], key: Hashable) -> MetaTensor:
    """Return a volume of a dictionary.

    Parameters
    ----------
    data : mapping
        From key to entry.
    key : hashable
        The volume's.

    Returns
    -------
    MetaTensor
        As it lies in the dictionary.

    Raises
    ------
    TypeError
        The entry has no affine.
    """
    value = data[key]
    if not isinstance(value, MetaTensor):
        msg = f"{key!r} must be a MetaTensor with an affine, got {type(value).__name__}; wrap it"
        raise TypeError(msg)
    return value


def mask_entry(
    data: Mapping[Hashable, object], key: Hashable, volume: Volume
) -> Bool[Tensor, " x y z"]:
    """Return the mask of a volume's brain.

    Parameters
    ----------
    data : mapping
        From key to entry; the mask's is (1, X, Y, Z) bool.
    key : hashable
        The mask's.
    volume : (C, X, Y, Z)
        Whose grid it must lie on.

    Returns
    -------
    (X, Y, Z) bool
        Without metadata; it shares its memory with the entry.

    Raises
    ------
    KeyError
        There is none.
    ValueError
        It is of another type, or lies on another grid.
    """
    value = data.get(key)
    if value is None:
        msg = f"the brain's mask must be an entry {key!r}, got {sorted(map(str, data))}; add it"
        raise KeyError(msg)
    wanted = (1, *volume.shape[1:])
    if not isinstance(value, Tensor) or value.dtype != torch.bool or value.shape != wanted:
        found = f"{getattr(value, 'dtype', type(value).__name__)} {getattr(value, 'shape', '')}"
        msg = f"{key!r} must be a bool tensor of shape {wanted}, got {found}; cast or resample it"
        raise ValueError(msg)
    return value.as_subclass(Tensor)[0]


def with_values(entry: object, values: Tensor) -> Tensor:
    """Return other values with an entry's affine, metadata and trace, if it has any.

    Parameters
    ----------
    entry : (C, *spatial)
        A `MetaTensor`, or what has no metadata. Not changed.
    values : (C, *spatial)
        On its grid.

    Returns
    -------
    (C, *spatial)
        A `MetaTensor` where the entry is one; shares its memory with `values`.

    Examples
    --------
    >>> volume = MetaTensor(torch.zeros(1, 2, 2, 2), affine=2 * torch.eye(4))
    >>> with_values(volume, torch.ones(1, 2, 2, 2)).affine[0, 0].item()
    2.0
    """
    if not isinstance(entry, MetaTensor):
        return values
    return MetaTensor(
        values, meta=dict(entry.meta), applied_operations=list(entry.applied_operations)
    )
