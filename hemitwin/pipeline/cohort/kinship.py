"""Who is related to whom: connected components over family, parents and subjects."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import Literal

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from hemitwin.pipeline.stage.tables import subject_name

__all__ = ["Kin", "Kinship", "Relative"]

Kin = Literal["mz", "dz", "sibling", "unclear", "related"]
"""How two relatives are related: identical or fraternal twins, or full siblings; ``unclear`` where
they may be twins and the tables do not settle it; else (half-siblings, parents, cousins)
``related``."""

_LINKS = ("family", "mother", "father")
_PARENTS = ("mother", "father")
_TWINS = ("mz", "dz")


@dataclass(frozen=True)
class Relative:
    """One line of a family table.

    Parameters
    ----------
    family, mother, father : str or None
        Identifiers as the table gives them; `None` where it does not know.
    zygosity : str or None
        ``MZ``, ``DZ`` or ``NotTwin``, from the genotype where there is one.
    """

    family: str | None = None
    mother: str | None = None
    father: str | None = None
    zygosity: str | None = None


@dataclass(frozen=True)
class Kinship:
    """What family tables say about subjects; private to whoever holds the tables.

    Parameters
    ----------
    lines : tuple of (str, Relative)
        Subject (``sub-01``) and what one line says of it; a subject may have several lines.
    """

    lines: tuple[tuple[str, Relative], ...] = field(default=(), repr=False)

    @property
    def subjects(self) -> frozenset[str]:
        """Everybody with a line, whether scanned or not."""
        return frozenset(subject for subject, _ in self.lines)

    @property
    def zygosity(self) -> Mapping[str, str]:
        """Zygosity of the subjects that have one."""
        return {name: line.zygosity for name, line in self.lines if line.zygosity is not None}

    def groups(self, subjects: Iterable[str]) -> Mapping[str, str]:
        """Give each subject, and everybody in the table, a group: all who are linked share it.

        Two people are linked when they have one family, one mother or one father (half-siblings
        share only one), or when one is the other's parent; groups are the connected components,
        so that cousins by a scanned parent and chains of half-siblings stay together, too.

        Parameters
        ----------
        subjects : iterable of str
            Those who need a group whether they have relatives or not.

        Returns
        -------
        mapping of str to str
            ``family-<id>`` by the first of the component's families, or its first member's name.

        Examples
        --------
        >>> kin = Kinship((("sub-1", Relative(mother="a")), ("sub-2", Relative(mother="a"))))
        >>> dict(kin.groups(["sub-1", "sub-2", "sub-3"]))
        {'sub-1': 'sub-1', 'sub-2': 'sub-1', 'sub-3': 'sub-3'}
        """
        people = sorted({*subjects, *self.subjects})
        links = [(("person", name), node) for name, line in self.lines for node in _nodes(line)]
        links = [(own, _as_person(node, set(people))) for own, node in links]
        nodes = sorted({("person", name) for name in people} | {node for _, node in links})
        members = _components(nodes, links)
        return {
            name: group
            for component in members
            for group in [_name_of(component)]
            for kind, name in component
            if kind == "person"
        }

    def relations(self, subjects: Iterable[str]) -> Mapping[frozenset[str], Kin]:
        """Tell how those of the subjects who share a group are related.

        Twins share a parent or a family, have no known parent apart, and have one zygosity. A
        twin who fits several others (two pairs in one sibship), or one whose zygosity is missing
        or contradicts the other's, is ``unclear``: neither a twin nor safely none.

        Parameters
        ----------
        subjects : iterable of str
            Relatives who were not scanned count when twins are sought.

        Returns
        -------
        mapping of frozenset of str to str
            By pair, `Kin`; who is not in it is unrelated.

        Examples
        --------
        >>> twin = Relative(family="a", zygosity="MZ")
        >>> kinship = Kinship((("sub-1", twin), ("sub-2", twin)))
        >>> kinship.relations(["sub-1", "sub-2"])[frozenset(("sub-1", "sub-2"))]
        'mz'
        """
        wanted = set(subjects)
        groups = self.groups(wanted)
        known = self._merged()
        members: dict[str, list[str]] = {}
        for name in sorted(groups):
            members.setdefault(groups[name], []).append(name)
        found: dict[frozenset[str], Kin] = {
            frozenset(pair): _kin(*(known.get(name, Relative()) for name in pair))
            for group in members.values()
            for pair in combinations(group, 2)
        }
        twins = Counter(name for pair, kin in found.items() if kin in _TWINS for name in pair)
        several = {name for name, partners in twins.items() if partners > 1}
        return {
            pair: "unclear" if kin in _TWINS and pair & several else kin
            for pair, kin in found.items()
            if pair <= wanted
        }

    def _merged(self) -> dict[str, Relative]:
        """Take each subject's lines together: the first that knows something says it."""
        merged: dict[str, Relative] = {}
        for name, line in self.lines:
            own = merged.get(name, Relative())
            merged[name] = Relative(
                own.family or line.family,
                own.mother or line.mother,
                own.father or line.father,
                own.zygosity or line.zygosity,
            )
        return merged


def _kin(one: Relative, other: Relative) -> Kin:
    parents = [(getattr(one, kind), getattr(other, kind)) for kind in _PARENTS]
    apart = any(None not in pair and pair[0] != pair[1] for pair in parents)
    full = all(None not in pair and pair[0] == pair[1] for pair in parents)
    linked = bool(set(_nodes(one)) & set(_nodes(other)))
    if apart or not linked:
        return "related"
    if "NotTwin" in {one.zygosity, other.zygosity}:
        return "sibling" if full else "related"
    if one.zygosity is None or one.zygosity != other.zygosity:
        return "unclear"
    return "mz" if one.zygosity == "MZ" else "dz"


def _nodes(line: Relative) -> list[tuple[str, str]]:
    links = ((kind, getattr(line, kind)) for kind in _LINKS)
    return [(kind, identifier) for kind, identifier in links if identifier is not None]


def _as_person(node: tuple[str, str], people: set[str]) -> tuple[str, str]:
    """Let a parent who is a subject be that person."""
    kind, identifier = node
    name = subject_name(identifier)
    return ("person", name) if kind != "family" and name in people else node


def _components(
    nodes: Sequence[tuple[str, str]], links: Sequence[tuple[tuple[str, str], tuple[str, str]]]
) -> list[list[tuple[str, str]]]:
    index = {node: k for k, node in enumerate(nodes)}
    rows = [index[own] for own, _ in links]
    columns = [index[other] for _, other in links]
    shape = (len(nodes), len(nodes))
    graph = coo_array((np.ones(len(links)), (rows, columns)), shape=shape)
    count, labels = connected_components(graph, directed=False)
    members: list[list[tuple[str, str]]] = [[] for _ in range(count)]
    for node, label in zip(nodes, labels, strict=True):
        members[label].append(node)
    return members


def _name_of(component: Sequence[tuple[str, str]]) -> str:
    families = sorted(name for kind, name in component if kind == "family")
    people = sorted(name for kind, name in component if kind == "person")
    return f"family-{families[0]}" if families else people[0]
