"""Strangers who could pass for a twin: unrelated scans, alike in sex and age."""

import hashlib
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, zip_longest

from hemitwin.pipeline.cohort.config import StrangersConfig
from hemitwin.pipeline.cohort.demographics import Demographics
from hemitwin.pipeline.stage.bids import Case
from hemitwin.pipeline.stage.errors import UserError

__all__ = ["Stranger", "draw_strangers"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Stranger:
    """An unrelated scan in the place of one partner of a positive pair.

    Parameters
    ----------
    stays : Case
        The other partner.
    case : Case
        The stranger's scan.
    matched : str
        On what it is matched: ``sex age``, ``sex``, ``age`` or ``n/a``.
    """

    stays: Case
    case: Case
    matched: str

    @property
    def pair(self) -> frozenset[str]:
        """The names of both scans."""
        return frozenset((self.stays.name, self.case.name))


@dataclass(frozen=True, eq=False)
class _Option:
    stranger: Stranger
    excess_years: float
    order: str


def draw_strangers(
    positives: Sequence[tuple[Case, Case]],
    cases: Sequence[Case],
    groups: Mapping[str, str],
    demographics: Demographics,
    config: StrangersConfig,
    *,
    seed: int,
) -> list[Stranger]:
    """Draw the unrelated pairs that stand against positive ones.

    Partners are replaced in turn. A stranger belongs to another group than the one who stays,
    and has the sex of the one it stands for and an age within the caliper; of its scans, that of
    the same session is taken where there is one, else the first. Among those the order is that of
    a SHA-256 of the seed and both names, so that adding a subject changes few pairs. No pair of
    scans is drawn twice, and no stranger for one positive pair while there are others within the
    caliper.

    Parameters
    ----------
    positives : sequence of (Case, Case)
        Pairs of scans.
    cases : sequence of Case
        From whom strangers are drawn.
    groups : mapping of str to str
        Each subject's family.
    demographics : Demographics
        Age and sex.
    config : StrangersConfig
        How many, matched on what.
    seed : int
        Of the draw.

    Raises
    ------
    UserError
        Sex or age is needed and not known, or a positive pair has no stranger.
    """
    people = [(case.subject, case.session) for case in cases]
    demographics.require(people, sex="sex" in config.match, age="age" in config.match)
    scans: dict[str, list[Case]] = {}
    for case in sorted(cases, key=lambda one: one.name):
        scans.setdefault(case.subject, []).append(case)
    pool = _Pool(scans, groups, demographics, config, seed)
    used: set[frozenset[str]] = set()
    drawn: list[Stranger] = []
    for positive in positives:
        options = [one for one in pool.options(*positive) if one.pair not in used]
        if not options:
            raise UserError(_nobody(positive[0].subject, config))
        taken = options[: config.negatives]
        used |= {one.pair for one in taken}
        drawn += taken
    _warn_of_few(drawn, len(positives), config)
    return drawn


@dataclass(frozen=True, eq=False)
class _Pool:
    """Everybody who may stand for somebody."""

    scans: Mapping[str, Sequence[Case]]
    groups: Mapping[str, str]
    demographics: Demographics
    config: StrangersConfig
    seed: int

    def options(self, one: Case, other: Case) -> list[Stranger]:
        """Return a positive pair's strangers, best first."""
        sides = [self._standing_for(other, stays=one), self._standing_for(one, stays=other)]
        turns = [option for option in chain(*zip_longest(*sides)) if option is not None]
        turns.sort(key=lambda option: option.excess_years)
        met: dict[str, int] = {}
        for place, option in enumerate(turns):
            met.setdefault(option.stranger.case.subject, place)
        order = sorted(
            range(len(turns)),
            key=lambda place: (
                turns[place].excess_years > 0,
                met[turns[place].stranger.case.subject] != place,
                turns[place].excess_years,
            ),
        )
        return [turns[place].stranger for place in order]

    def _standing_for(self, replaced: Case, *, stays: Case) -> list[_Option]:
        found = [
            self._option(self._scan_of(subject, replaced), replaced, stays)
            for subject in self.scans
            if self.groups[subject]
            not in {self.groups[stays.subject], self.groups[replaced.subject]}
            and self._same_sex(subject, replaced.subject)
        ]
        within = [one for one in found if one.excess_years == 0 or self.config.relax_age]
        return sorted(within, key=lambda one: (one.excess_years, one.order))

    def _scan_of(self, subject: str, replaced: Case) -> Case:
        scans = self.scans[subject]
        return next((one for one in scans if one.session == replaced.session), scans[0])

    def _same_sex(self, one: str, other: str) -> bool:
        sex = self.demographics.sex
        return "sex" not in self.config.match or sex[one] == sex[other]

    def _option(self, case: Case, replaced: Case, stays: Case) -> _Option:
        excess = 0.0
        if "age" in self.config.match:
            own, other = (
                self.demographics.age_of(one.subject, one.session) for one in (case, replaced)
            )
            if own is not None and other is not None:
                excess = max(abs(own - other) - self.config.caliper_years, 0.0)
        on = [kind for kind in self.config.match if kind != "age" or excess == 0]
        text = f"{self.seed}:{self.config.redraw}:{stays.name}:{case.name}"
        order = hashlib.sha256(text.encode()).hexdigest()
        return _Option(Stranger(stays, case, " ".join(on) or "n/a"), excess, order)


def _nobody(subject: str, config: StrangersConfig) -> str:
    alike = "" if "sex" not in config.match else " of one sex"
    if "age" in config.match:
        alike += f" within {config.caliper_years:g} years"
    return (
        f"every positive pair must have an unrelated subject{alike} in its fold, but that of "
        f"{subject} has none that is not taken; raise caliper_years, set relax_age, lower "
        f"negatives, match on less, or make the fold larger"
    )


def _warn_of_few(drawn: Sequence[Stranger], positives: int, config: StrangersConfig) -> None:
    if short := positives * config.negatives - len(drawn):
        logger.warning(
            "%d of the %d negative pairs asked for are missing: the fold has too few strangers "
            "alike in %s",
            short,
            positives * config.negatives,
            " and ".join(config.match) or "nothing",
        )
    relaxed = sum("age" not in one.matched for one in drawn) if "age" in config.match else 0
    if relaxed:
        logger.warning(
            "%d of %d negative pairs are not matched on age: nobody was within %g years",
            relaxed,
            len(drawn),
            config.caliper_years,
        )
