"""Rank: the region tables of a group become one ranking with intervals over families."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from hemitwin._atomic import atomic_path
from hemitwin.atlases import (
    HCPMMP,
    hcpmmp_regions,
    hcpmmp_volume,
    region_centres,
    relevance_palette,
    save_parcel_scalar,
    save_table,
    template_grid,
)
from hemitwin.pipeline.cohort.families import kinship_of
from hemitwin.pipeline.explanation.map_files import find_explained
from hemitwin.pipeline.group.config import Part, RankConfig
from hemitwin.pipeline.group.ranking import Ranking, rank_regions, shares_of
from hemitwin.pipeline.group.region_groups import SUBCORTEX, contrast_groups, partner_rows
from hemitwin.pipeline.regions.parcellate import read_region_sidecar, unlike_most
from hemitwin.pipeline.stage.bids import Case, Modality
from hemitwin.pipeline.stage.dataset import provenance
from hemitwin.pipeline.stage.errors import CaseError, UserError, reading
from hemitwin.pipeline.stage.json_files import digest_file, read_json, write_json
from hemitwin.pipeline.stage.names import map_desc, ranking_path, region_table_path
from hemitwin.pipeline.stage.pictures import BLUE, paper_style
from hemitwin.pipeline.stage.sides import side_is_guess
from hemitwin.pipeline.statistics.bootstrap import caution_of
from hemitwin.pipeline.statistics.spatial_nulls import homotopic_surrogates

__all__ = ["RankConfig", "Ranked", "rank"]

logger = logging.getLogger(__name__)

_NOTE_HCPMMP = (
    "HCP-MMP 1.0 areas were drawn from multimodal data; on single scans they are a projected "
    "group parcellation."
)
_NOTE = (
    "Intervals are 95 %, by a bootstrap over families; cohens_d_of_regions has regions as units "
    "and makes no claim about people."
)
_SPATIAL_NOTE = (
    "Each region counts once. p_spatial, two-sided, is against surrogate maps that keep the "
    "variogram and the likeness of the two sides (Burt et al. 2020, "
    "doi:10.1016/j.neuroimage.2020.117038; Euclidean distances between centres in the "
    "template); its units are places, and it makes no claim about people. q_spatial is after "
    "Benjamini and Hochberg, within the grouping."
)


_SHARE = {
    "positive": "Of all positive relevance of a map, that outside of all regions included; mean",
    "negative": "Of all negative relevance of a map, that outside of all regions included; mean",
    "signed": "Signed sum over the sum of all magnitudes of a map; mean over the group",
}

_SHOWN = 20


@dataclass(frozen=True, eq=False)
class Ranked:
    """A ranking and where it was written.

    Parameters
    ----------
    ranking : Ranking
        The numbers.
    path : Path
        The table; sidecar, `.pscalar.nii` files and picture lie beside it.
    picture : Path
        The first twenty regions.
    groups : DataFrame
        The subcortex, cortices and networks, as `contrast_groups` gives them.
    groups_path : Path
        Their table.
    """

    ranking: Ranking
    path: Path
    picture: Path
    groups: pd.DataFrame
    groups_path: Path

    @property
    def caution(self) -> str:
        """What must be known of few families; nothing where there are enough."""
        few = caution_of(self.ranking.families)
        units = "; spatial p has places as units and says nothing about people"
        return f"{few}{units if len(self.groups) else ''}" if few else ""

    @property
    def subcortical_p(self) -> float:
        """The spatial p of the subcortex against the cortex; NaN without surrogates."""
        if not len(self.groups):
            return float("nan")
        found = self.groups.loc[self.groups["group"] == SUBCORTEX, "p_spatial"]
        return float(found.iloc[0])


def rank(
    derivatives: Path,
    *,
    labels: tuple[str, ...] | None = None,
    desc: str = "lrp",
    modality: Modality = "T1w",
    families: Path | None = None,
    config: RankConfig | None = None,
) -> Ranked:
    """Rank the regions of all parcellated maps of one kind.

    Parameters
    ----------
    derivatives : Path
        The folder with the region tables.
    labels : tuple of str, optional
        Whose maps are the group; all that were explained by default. One ranking of a kind of map
        is kept: where it takes the place of one of more maps, that is told.
    desc : str
        Which map: the word after ``desc-`` in its name, without a modality.
    modality : {'T1w', 'T2w', 'FLAIR'}
        Of the explained volumes.
    families : Path, optional
        Table of relatives, as for training; without it each subject is a family.
    config : RankConfig, optional
        What is counted, and the bootstrap.

    Returns
    -------
    Ranked

    Raises
    ------
    UserError
        A map has no region table, no relevance of this part, or regions that were found in
        another way than those of most; or the families' table lacks a subject.
    """
    config = config or RankConfig()
    cases = find_explained(derivatives, desc, labels=labels, modality=modality)
    paths = _tables_of(cases, derivatives, desc, config.atlas)
    tables = [_read_table(path, config.part) for path in paths]
    regions, _ = tables[0]
    subjects = sorted({case.subject for case in cases})
    groups = kinship_of(subjects, None, families).groups(subjects)
    ranking = rank_regions(
        [shares for _, shares in tables],
        regions,
        [groups[case.subject] for case in cases],
        draws=config.draws,
        seed=config.seed,
    )
    place = partial(ranking_path, derivatives, map_desc(cases[0], desc), config.atlas)
    path = place()
    _tell_of_fewer(path, ranking.cases)
    save_table(path, ranking.table)
    _draw_ranking(path.with_suffix(".png"), ranking, config.part)
    if config.atlas == HCPMMP:
        _save_values(place, ranking)
    groups_path = place(figure="groups")
    contrasts = _contrast_groups(ranking, config)
    found = Ranked(ranking, path, path.with_suffix(".png"), contrasts, groups_path)
    sources = {
        "Sources": [f"bids::{one.relative_to(derivatives)}" for one in paths],
        "SourcesSHA256": [digest_file(one) for one in paths],
        "SidesGuessed": sum(side_is_guess(case) for case in cases),
        "RelativesKnown": families is not None,
    }
    _write_sidecars(found, sources, config)
    return found


def _tell_of_fewer(path: Path, cases: int) -> None:
    sidecar = path.with_suffix(".json")
    try:
        before = read_json(sidecar).get("Cases", 0) if sidecar.is_file() else 0
    except ValueError:  # damaged: it is written anew
        before = 0
    if isinstance(before, int) and before > cases:
        logger.warning(
            "%s is of %d maps now, and was of %d: its sidecar names them; rank without "
            "--participant-label for all",
            path,
            cases,
            before,
        )


def _read_table(path: Path, part: Part) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Read a map's regions, and what each of them has of its relevance."""
    with reading(path, "run 'hemitwin parcellate' again"):
        table = pd.read_csv(path, sep="\t")
        shares = shares_of(table, part)
        if shares.isna().to_numpy().any():
            msg = "a region has no number"
            raise ValueError(msg)
        return table[table["index"] > 0], shares


def _contrast_groups(ranking: Ranking, config: RankConfig) -> pd.DataFrame:
    if config.atlas != HCPMMP:
        return pd.DataFrame()
    regions = hcpmmp_regions()
    values = ranking.table.sort_values("index")["enrichment"].to_numpy(float)
    surrogates = np.empty((0, len(regions)))
    if config.null_draws:
        centres = region_centres(hcpmmp_volume(*template_grid(2.0), cache_dir=None))
        surrogates = homotopic_surrogates(
            values, centres, partner_rows(regions), draws=config.null_draws, seed=config.seed
        )
    return contrast_groups(regions, values, ranking.drawn, surrogates)


def _save_values(place: Callable[..., Path], ranking: Ranking) -> None:
    in_order = ranking.table.sort_values("index")
    for name in ("share", "enrichment"):
        values = in_order[name].to_numpy(float)
        save_parcel_scalar(
            place(figure=name), values, name=name, palette=relevance_palette(values)
        )


def _write_sidecars(found: Ranked, sources: dict[str, object], config: RankConfig) -> None:
    ranking, p_value = found.ranking, found.subcortical_p
    common = {
        **sources,
        "Cases": ranking.cases,
        "Families": ranking.families,
        "Caution": found.caution or None,
        "Settings": config.model_dump(),
        "SpatialNullP": None if np.isnan(p_value) else p_value,
        "NullDraws": config.null_draws,
        "GeneratedBy": provenance(),
    }
    content = {
        "Description": f"Regions ranked by {config.part} relevance over a group",
        "Note": f"{_NOTE_HCPMMP} {_NOTE}" if config.atlas == HCPMMP else _NOTE,
        "share": {"Description": _SHARE[config.part]},
        "Stability": ranking.stability.to_dict(),
        "SubcorticalLessCortical": ranking.subcortical.to_dict(),
        "CohensD": ranking.subcortical_d.to_dict(),
        "CohensDOfRegions": None if np.isnan(ranking.regions_d) else ranking.regions_d,
        **common,
    }
    write_json(found.path.with_suffix(".json"), content)
    if not len(found.groups):
        return
    save_table(found.groups_path, found.groups)
    content = {
        "Description": f"Enrichment of {config.part} relevance in groups of regions, against all "
        f"other regions",
        "Note": f"{_NOTE_HCPMMP} {_NOTE} {_SPATIAL_NOTE}",
        **common,
    }
    write_json(found.groups_path.with_suffix(".json"), content)


def _tables_of(cases: Sequence[Case], derivatives: Path, desc: str, atlas: str) -> list[Path]:
    """Find each map's region table; all of regions that were found in the same way."""
    paths = [region_table_path(case, derivatives, desc, atlas) for case in cases]
    problems: dict[str, str] = {}
    kinds: dict[str, tuple[str, str]] = {}
    for case, path in zip(cases, paths, strict=True):
        try:
            content = read_region_sidecar(case, derivatives, desc, path, atlas)
        except CaseError as error:
            problems[case.name] = error.reason
        else:
            kinds[case.name] = path.name, str(content["Regions"])
    problems = problems or unlike_most(kinds)
    if problems:
        name, reason = next(iter(problems.items()))
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        msg = f"{name}: {reason}{more}"
        raise UserError(msg)
    return paths


def _draw_ranking(path: Path, ranking: Ranking, part: Part) -> None:
    """Draw the first regions by share and by enrichment, with their intervals.

    Parameters
    ----------
    path : Path
        The PNG file.
    ranking : Ranking
        The numbers.
    part : {'positive', 'negative', 'signed'}
        What was counted.
    """
    with paper_style():
        figure = Figure(figsize=(10, 5.5), dpi=200, layout="constrained")
        for panel, name in zip(figure.subplots(1, 2), ("share", "enrichment"), strict=True):
            rows = ranking.table.sort_values(f"rank_by_{name}", kind="stable").head(_SHOWN)
            places = np.arange(len(rows))
            colours = [BLUE if known else "#b5541c" for known in rows["cortex"].notna()]
            panel.hlines(places, rows[f"{name}_low"], rows[f"{name}_high"], colors=colours)
            panel.scatter(rows[name], places, color=colours, s=18, zorder=3)
            panel.set_yticks(places, rows["name"])
            panel.invert_yaxis()
            panel.set_title(f"{name} of {part} relevance, {ranking.families} families")
        figure.supxlabel("blue: cortex; brown: below it; 95 % intervals over families", fontsize=8)
        with atomic_path(path) as temporary:
            figure.savefig(temporary)
