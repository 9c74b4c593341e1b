"""Where scans come from: BIDS, derivatives, an HCP tree or a list, found and checked."""

import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from hemitwin.pipeline.preparation.bids_filter import Filter, keep_matching, read_filter
from hemitwin.pipeline.preparation.config import InputType, SourceConfig
from hemitwin.pipeline.preparation.derivatives import find_derivatives
from hemitwin.pipeline.preparation.hcp import find_hcp_scans, is_hcp_tree
from hemitwin.pipeline.preparation.scan_list import find_listed_scans
from hemitwin.pipeline.stage.bids import Case, find_scans, normalise_labels
from hemitwin.pipeline.stage.errors import UserError
from hemitwin.pipeline.stage.json_files import read_json
from hemitwin.pipeline.stage.tables import read_table, sessions_of

__all__ = ["SourceConfig", "find_sources"]

logger = logging.getLogger(__name__)


def find_sources(
    source: Path, *, labels: Sequence[str] | None = None, config: SourceConfig | None = None
) -> tuple[Case, ...]:
    """Find the scans to work on.

    Parameters
    ----------
    source : Path
        A BIDS dataset, BIDS derivatives, an HCP tree, or a list of scans (``.txt``, ``.csv``,
        ``.tsv``).
    labels : sequence of str, optional
        Subjects, with or without ``sub-``; all by default.
    config : SourceConfig, optional
        What is meant; by default every native T1w scan, the source's kind found out.

    Returns
    -------
    tuple of Case
        A subject without a scan is there with a path that is missing; a scan that cannot be taken
        is there with its problem. Scans that filter or session leave out are not, and are logged
        where a subject has no other.

    Raises
    ------
    UserError
        The source is missing or of no known kind, or nothing in it is meant.
    """
    config = config or SourceConfig()
    wanted = _filter(config)
    kind = config.input_type if config.input_type != "auto" else _kind_of(source)
    if config.filter_file is not None and kind not in {"bids", "derivatives"}:
        msg = (
            f"--bids-filter-file chooses by the names of a BIDS dataset, but {source} is {kind}; "
            f"leave it out"
        )
        raise UserError(msg)
    if config.space and kind not in {"derivatives", "hcp"}:
        msg = (
            f"--space chooses among derivatives or in an HCP tree, but {source} is {kind}; leave "
            f"it out"
        )
        raise UserError(msg)
    cases = _find(kind, source, labels, config, wanted)
    if kind in {"bids", "derivatives"}:
        _compare_with_participants(source, {case.subject for case in cases}, labels)
        _warn_of_mixed_sessions(cases)
    cases = _keep(cases, config, wanted if kind == "bids" else {})
    if config.alignment is not None:
        cases = tuple(replace(case, alignment=config.alignment) for case in cases)
    return cases


def _find(
    kind: InputType,
    source: Path,
    labels: Sequence[str] | None,
    config: SourceConfig,
    wanted: Filter,
) -> tuple[Case, ...]:
    modality = config.modality
    if kind == "list":
        return find_listed_scans(source, labels=labels, modality=modality)
    if not source.is_dir():
        msg = f"the dataset must be a folder, got {source}, which is not there; check the path"
        raise UserError(msg)
    if kind == "hcp":
        return find_hcp_scans(source, labels=labels, modality=modality, space=config.space)
    if kind == "derivatives":
        return find_derivatives(
            source, labels=labels, modality=modality, space=config.space, wanted=wanted
        )
    cases = find_scans(source, labels=labels, tail=modality)
    return tuple(replace(case, modality=modality) for case in cases)


def _kind_of(source: Path) -> InputType:
    if source.is_file():
        return "list"
    description = source / "dataset_description.json"
    if description.is_file():
        try:
            content = read_json(description)
        except ValueError:  # a damaged description describes nothing; the scans are looked at
            content = {}
        derived = content.get("DatasetType") == "derivative" or "PipelineDescription" in content
        return "derivatives" if derived else "bids"
    if not any(source.glob("sub-*")) and is_hcp_tree(source):
        return "hcp"
    return "bids"


def _filter(config: SourceConfig) -> Filter:
    if config.filter_file is None:
        return {}
    return read_filter(config.filter_file, config.modality)


def _keep(cases: Sequence[Case], config: SourceConfig, wanted: Filter) -> tuple[Case, ...]:
    sessions = normalise_labels(config.sessions, prefix="ses")
    there = [case for case in cases if case.scan.is_file() or case.problem]
    kept = set(keep_matching(there, wanted))
    if sessions:
        kept = {case for case in kept if case.session in sessions}
        if absent := sorted(set(sessions) - {case.session for case in there}):
            logger.warning("no scan has the session %s", ", ".join(absent))
    left_out = sorted({case.subject for case in there} - {case.subject for case in kept})
    if left_out:
        logger.warning("no scan of %s is meant by session and filter", ", ".join(left_out))
    if left_out and not kept:
        have = ", ".join(sorted({case.session or "no session" for case in there}))
        msg = f"session and filter must leave some scans, but leave none; there are: {have}"
        raise UserError(msg)
    return tuple(case for case in cases if case in kept or case not in there)


def _compare_with_participants(
    folder: Path, subjects: set[str], labels: Sequence[str] | None
) -> None:
    """Warn of subjects that only the table or only the folders know."""
    path = folder / "participants.tsv"
    if not path.is_file():
        return
    try:
        table = read_table(path)
    except UserError as error:
        logger.warning("%s: subjects not compared", error)
        return
    # Lines of several sessions are no repetition.
    lines = Counter(zip(table["subject"], sessions_of(table), strict=True))
    twice = sorted({str(one) for (one, _), count in lines.items() if count > 1})
    listed = {str(one) for one in table["subject"]}
    findings = {"twice in": twice, "not in": sorted(subjects - listed)}
    if labels is None:
        findings["without a folder but in"] = sorted(listed - subjects)
    for where, names in findings.items():
        if names:
            logger.warning("%s %s %s", ", ".join(names), where, path)


def _warn_of_mixed_sessions(cases: Sequence[Case]) -> None:
    """BIDS wants sessions for all of a subject's scans or none; each is taken as its own case."""
    bare = {case.subject for case in cases if case.session is None and case.scan.is_file()}
    with_session = {case.subject for case in cases if case.session is not None}
    if both := sorted(bare & with_session):
        logger.warning("scans with and without session in %s: all taken", ", ".join(both))
    elif bare and with_session:
        logger.warning("%d subjects have sessions, %d have none", len(with_session), len(bare))
