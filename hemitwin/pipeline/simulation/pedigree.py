"""Synthetic families: who is whose twin or sibling, and what each has from its parents."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from hemitwin.pipeline.simulation.config import FamilyCounts
from hemitwin.transforms import Genes

__all__ = ["Relation", "draw_pedigree", "pedigree_table"]


@dataclass(frozen=True)
class Relation:
    """One synthetic person in its family.

    Parameters
    ----------
    name : str
        ``sub-001``; the order of the names is random.
    number : int
        Decides, with the seed, what is the person's own.
    family : int
        From 1.
    kind : str
        ``mz``, ``dz``, ``siblings`` or ``unrelated``.
    sex : str
        ``F`` or ``M``.
    genes : Genes
        What it has from its parents.
    """

    name: str
    number: int
    family: int
    kind: str
    sex: str
    genes: Genes


def draw_pedigree(counts: FamilyCounts, *, seed: int) -> tuple[Relation, ...]:
    """Draw families: names in random order, sexes, and the seeds of what is inherited.

    Identical twins have one sex and the same genes; fraternal twins and siblings share the
    family's part of them; nobody else shares anything.

    Parameters
    ----------
    counts : FamilyCounts
        How many of each kind.
    seed : int
        Same seed, same families.

    Returns
    -------
    tuple of Relation
        Sorted by name.
    """
    rng = np.random.default_rng([seed, 0])
    kinds = [kind for kind, count in counts for _ in range(count)]
    members = [
        (family, kind, copy)
        for family, kind in enumerate(kinds, start=1)
        for copy in range(1 if kind == "unrelated" else 2)
    ]
    names = rng.permutation(len(members)) + 1
    digits = max(2, len(str(len(members))))
    people: list[Relation] = []
    for number, (family, kind, copy) in enumerate(members):
        own = Genes(family_seed=int(rng.integers(2**32)), person_seed=int(rng.integers(2**32)))
        sex = "FM"[int(rng.integers(2))]
        if copy == 1:
            first = people[-1]
            own = own.model_copy(update={"family_seed": first.genes.family_seed})
            own, sex = (first.genes, first.sex) if kind == "mz" else (own, sex)
        name = f"sub-{names[number]:0{digits}d}"
        people.append(Relation(name, number, family, kind, sex, own))
    return tuple(sorted(people, key=lambda one: one.name))


def pedigree_table(people: Sequence[Relation]) -> pd.DataFrame:
    """Return the columns of the Human Connectome Project's restricted table.

    Returns
    -------
    DataFrame
        Subject, Family_ID, Mother_ID, Father_ID, ZygositySR, ZygosityGT.
    """
    reported = {"mz": "MZ", "dz": "NotMZ"}
    rows = [
        {
            "Subject": one.name.removeprefix("sub-"),
            "Family_ID": f"{50000 + one.family}_{80000 + one.family}",
            "Mother_ID": str(50000 + one.family),
            "Father_ID": str(80000 + one.family),
            "ZygositySR": reported.get(one.kind, "NotTwin"),
            "ZygosityGT": one.kind.upper() if one.kind in reported else "",
        }
        for one in people
    ]
    return pd.DataFrame(rows)
