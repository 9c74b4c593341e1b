"""Which embeddings of a batch belong together, and which do not."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from hemitwin.models.config import Negatives


@dataclass(frozen=True, eq=False)
class Items:
    """
    Who the images of a batch are.

    Attributes
    ----------
    group : (B,) int
        Hemispheres: the subject. Brains: the set that belongs together, one twin pair or one
        person's scans. Images with classes: the class, from 0.
    item : (B,) int
        Hemispheres: the side, 0 left, 1 right. Brains: the scan. Images with classes: the image.
    kin : (B,) int
        The family: brains of one family that are not one set are relatives.
    lesioned : (B,) bool
        A lesion was injected.
    """

    group: Int[Tensor, " batch"]
    item: Int[Tensor, " batch"]
    kin: Int[Tensor, " batch"]
    lesioned: Bool[Tensor, " batch"]

    def pack(self) -> Int[Tensor, "batch 4"]:
        """Return one tensor, to be gathered or kept; `unpack` is its inverse."""
        return torch.stack([self.group, self.item, self.kin, self.lesioned.long()], dim=1)

    @classmethod
    def unpack(cls, packed: Int[Tensor, "batch 4"]) -> "Items":
        """Return what `pack` was given."""
        group, item, kin, lesioned = packed.unbind(1)
        return cls(group, item, kin, lesioned.bool())

    @classmethod
    def join(cls, parts: Sequence["Items"]) -> "Items":
        """Put the images of several batches after one another."""
        return cls.unpack(torch.cat([part.pack() for part in parts]))


@dataclass(frozen=True, eq=False)
class Relations:
    """
    Ordered pairs among anchors (rows) and others (columns).

    Attributes
    ----------
    positive : (A, B) bool
        They belong together.
    negative : (A, B) bool
        They do not. A pair may be neither.
    abnormal : (A,) bool or None
        The anchors' own label, where they have one.
    classes : (A,) int or None
        The anchors' classes, where they have some.
    compared : (A,) int or None
        Of images that are each seen beside one other alone: the distances of pairs with one number
        are held against one another.
    """

    positive: Bool[Tensor, "anchors others"]
    negative: Bool[Tensor, "anchors others"]
    abnormal: Bool[Tensor, " anchors"] | None = None
    classes: Int[Tensor, " anchors"] | None = None
    compared: Int[Tensor, " anchors"] | None = None


def relate_halves(anchors: Items, others: Items, negatives: Negatives = "lesion") -> Relations:
    """
    Pair the healthy half of a brain with the other side.

    Parameters
    ----------
    anchors, others : Items
        Hemispheres. Anchors are healthy ones; the others stand on the other side.
    negatives : {'lesion', 'subject', 'relative'}
        lesion: the lesioned halves of the same subject; else also all halves of other subjects.

    Returns
    -------
    Relations
        Positive: the same subject's other healthy half. Abnormal: the lesioned halves.

    Examples
    --------
    >>> n = torch.tensor
    >>> items = Items(n([0, 0, 0]), n([0, 1, 1]), n([0, 0, 0]), n([False, False, True]))
    >>> relate_halves(items, items).negative.int().tolist()
    [[0, 0, 1], [0, 0, 0], [0, 0, 0]]
    """
    same = anchors.group[:, None] == others.group[None]
    usable = (anchors.item[:, None] != others.item[None]) & ~anchors.lesioned[:, None]
    negative = same & others.lesioned[None]
    if negatives != "lesion":
        negative = negative | ~same
    positive = usable & same & ~others.lesioned[None]
    return Relations(positive, usable & negative, anchors.lesioned)


def relate_whole_pairs(
    items: Items,
    left: Int[Tensor, " pairs"],
    right: Int[Tensor, " pairs"],
    negatives: Negatives = "lesion",
) -> Relations:
    """
    Relate the two halves of each pair, and no others.

    What a network that sees both halves says of one depends on the other: a half of one pair
    and a half of another are never compared.

    Parameters
    ----------
    items : Items
        Hemispheres.
    left, right : (P,) int
        Rows of the halves of each pair.
    negatives : {'lesion', 'subject', 'relative'}
        lesion: pairs are held against those of the same subject; else against all.

    Returns
    -------
    Relations
        Positive: both halves of a pair without a lesion. Negative: of one with a lesion.

    Examples
    --------
    >>> n = torch.tensor
    >>> items = Items(n([0] * 4), n([0, 0, 1, 1]), n([0] * 4), n([False, True, False, False]))
    >>> found = relate_whole_pairs(items, n([0, 1]), n([2, 3]))
    >>> found.positive.nonzero().tolist(), found.negative.nonzero().tolist()
    ([[0, 2], [2, 0]], [[1, 3], [3, 1]])
    """
    own = torch.zeros(len(items.item), len(items.item), dtype=torch.bool, device=items.item.device)
    own[left, right] = own[right, left] = True
    lesioned = items.lesioned[:, None] | items.lesioned[None]
    compared = items.group if negatives == "lesion" else torch.zeros_like(items.group)
    return Relations(own & ~lesioned, own & lesioned, items.lesioned, compared=compared)


def relate_brains(anchors: Items, others: Items, negatives: Negatives = "subject") -> Relations:
    """
    Pair the brains of one set, and set them against those of others.

    Parameters
    ----------
    anchors, others : Items
        Brains.
    negatives : {'subject', 'relative'}
        subject: unrelated brains; relative: relatives that are not of the set, too.

    Returns
    -------
    Relations
    """
    same = anchors.group[:, None] == others.group[None]
    related = anchors.kin[:, None] == others.kin[None]
    apart = ~same if negatives == "relative" else ~same & ~related
    return Relations(same & (anchors.item[:, None] != others.item[None]), apart)


def relate_classes(anchors: Items, others: Items, negatives: Negatives = "relative") -> Relations:
    """
    Pair the images of one class, and set them against those of the others.

    Parameters
    ----------
    anchors, others : Items
        Images with classes. One image, also where it comes twice, is never its own positive.
    negatives : {'relative', 'subject', 'lesion'}
        subject: images of other families alone; else all of another class, whoever's they are.

    Returns
    -------
    Relations
        With the anchors' classes.

    Examples
    --------
    >>> n = torch.tensor
    >>> items = Items(n([0, 0, 1]), n([0, 1, 2]), n([0, 1, 1]), n([False, False, False]))
    >>> relate_classes(items, items).negative.int().tolist()
    [[0, 0, 1], [0, 0, 1], [1, 1, 0]]
    """
    same = anchors.group[:, None] == others.group[None]
    negative = ~same
    if negatives == "subject":
        negative = negative & (anchors.kin[:, None] != others.kin[None])
    positive = same & (anchors.item[:, None] != others.item[None])
    return Relations(positive, negative, classes=anchors.group)
