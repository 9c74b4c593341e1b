"""Whether it is known which side of a prepared brain is left, for flags, tables and warnings."""

import logging
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

from hemitwin.pipeline.stage.bids import Case, sidecar_of
from hemitwin.pipeline.stage.json_files import read_json
from hemitwin.transforms import guessed_side

__all__ = ["says_guess", "side_is_guess", "warn_of_guessed_sides"]

logger = logging.getLogger(__name__)


def side_is_guess(*cases: Case) -> bool:
    """Tell whether the header of one of these prepared volumes' scans left the side open.

    Maps and tables say so in their sidecars, as ``SideIsGuess``.
    """
    return any(_guess_of(case.scan) is not None for case in cases)


def warn_of_guessed_sides(cases: Sequence[Case]) -> None:
    """Name the prepared volumes whose sides are a guess: once each, whatever stages follow."""
    for case in cases:
        if (guess := _guess_of(case.scan)) is not None:
            _warn(case.scan, case.name, guess)


@cache
def _warn(scan: Path, name: str, guess: str) -> None:
    del scan  # tells the same name in two folders apart
    logger.warning(
        "%s: the scan's %s, so that left and right may be exchanged in every result; set its "
        "sform and prepare it again",
        name,
        guess,
    )


def says_guess(volume: Path) -> bool:
    """Tell whether a map or label volume that some stage wrote says so of its sides."""
    return _content(volume).get("SideIsGuess") is True


def _guess_of(prepared: Path) -> str | None:
    return guessed_side(_content(prepared).get("HeaderNotes", ()))


def _content(volume: Path) -> dict[str, Any]:
    sidecar = sidecar_of(volume)
    try:
        return read_json(sidecar) if sidecar.is_file() else {}
    except ValueError:  # a damaged sidecar is the stage's to report
        return {}
