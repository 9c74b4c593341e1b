"""A BIDS folder of synthetic families, whose likeness lies in regions that are known."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from pydantic import Field
from scipy import ndimage

from hemitwin._shapes import Grid
from hemitwin.atlases import (
    Parcellation,
    TemplateImage,
    hcpmmp_volume,
    load_template,
    save_table,
    save_volume,
)
from hemitwin.pipeline.simulation.config import FamilyPlan
from hemitwin.pipeline.simulation.pedigree import Relation, draw_pedigree, pedigree_table
from hemitwin.pipeline.simulation.people import describe_cohort, require_own_people, sample_pose
from hemitwin.pipeline.stage.errors import CaseError, UserError
from hemitwin.pipeline.stage.json_files import write_json, write_private, write_text
from hemitwin.pipeline.stage.runner import run_cases
from hemitwin.transforms import (
    AnatomySpec,
    ScannerConfig,
    apply_scanner,
    heritable_displacement,
    least_jacobian,
    limit_folding,
    render_anatomy,
    sample_scanner,
)

__all__ = [
    "FAMILY_TABLE",
    "TRUTH",
    "FamilyCohortConfig",
    "SyntheticFamilies",
    "write_families_cohort",
]

FAMILY_TABLE = "families.private.csv"
"""Where the family table lies in the cohort's folder, if no other place is named."""

TRUTH = "derivatives/truth/heritable_regions.tsv"
"""Every region with its heritability, 0 for most."""

_EVERY_AREA = "cortex"
_README = """\
Synthetic people, made from the symmetric brain template that nilearn bundles: smooth random
deformation, bias field, noise and pose. No scan in this folder is of a human being.

Some are relatives: inside the regions of derivatives/truth/heritable_regions.tsv a share of their
deformation (the heritability) is inherited, equal in identical twins and half shared by fraternal
twins and siblings; elsewhere everybody is deformed on their own. Who is related to whom stands in
the family table only, a private file that this dataset does not describe.
"""


class FamilyCohortConfig(FamilyPlan):
    """Which families are made, what their members share, and how everybody looks."""

    falloff_mm: float = Field(
        default=10.0, gt=0, description="Distance from a region at which nothing is inherited."
    )
    amplitude_mm: float = Field(default=1.5, ge=0, description="Symmetric displacement, SD in mm.")
    asymmetry_mm: float = Field(
        default=0.7, ge=0, description="Left-right independent displacement, SD in mm."
    )
    smoothness_mm: float = Field(
        default=15.0, gt=0, description="Distance of the displacement's knots in mm."
    )
    least_jacobian: float = Field(
        default=0.1,
        gt=0,
        lt=1,
        description="No voxel is squeezed below this share; whoever would be is deformed less.",
    )
    scanner: ScannerConfig = Field(default=ScannerConfig(), description="How scanners differ.")
    rotation_deg: float = Field(default=8.0, ge=0, description="Largest turn about each axis.")
    shift_mm: float = Field(default=8.0, ge=0, description="Largest shift along each axis.")


@dataclass(frozen=True)
class SyntheticFamilies:
    """Where a cohort of families lies.

    Parameters
    ----------
    people : tuple of Relation
        By name.
    family_table : Path
        Private: who is related to whom.
    truth : Path
        The regions' heritability.
    least_jacobian : float
        Over all people and voxels.
    """

    people: tuple[Relation, ...]
    family_table: Path
    truth: Path
    least_jacobian: float


@dataclass(frozen=True, eq=False)
class _World:
    """What all people have in common."""

    folder: Path
    config: FamilyCohortConfig
    template: TemplateImage
    share: Grid


def write_families_cohort(
    folder: Path,
    config: FamilyCohortConfig,
    *,
    cache: Path | None,
    family_table: Path | None = None,
    nprocs: int = 1,
) -> SyntheticFamilies:
    """Write synthetic families as a BIDS dataset with its ground truth.

    Parameters
    ----------
    folder : Path
        Gets ``sub-*/anat/sub-*_T1w.nii.gz``, a `participants.tsv` that names no relatives, and
        `derivatives/truth`. The order of the names tells nothing.
    config : FamilyCohortConfig
        Same configuration, same people.
    cache : Path or None
        Where the atlas is kept; None: nowhere.
    family_table : Path, optional
        Where the family table goes, in the columns of the Human Connectome Project's restricted
        CSV, mode 0600; ``families.private.csv`` in `folder`, listed in `.bidsignore`, by default.
    nprocs : int
        Processes.

    Returns
    -------
    SyntheticFamilies

    Raises
    ------
    UserError
        A region is not in the atlas, or `folder` holds people of another cohort.
    """
    people = draw_pedigree(config.families, seed=config.seed)
    require_own_people(folder, [one.name for one in people])
    template = load_template(config.resolution_mm)
    atlas = hcpmmp_volume(template.data.shape, template.affine, cache_dir=cache)
    names = _named_regions(atlas, config.regions)
    share = config.heritability * _heritability_map(atlas, names, falloff_mm=config.falloff_mm)
    world = _World(folder, config, template, share.astype(np.float32))
    outcome = run_cases(
        partial(_write_person, world=world),
        people,
        stage="simulate",
        out=folder,
        nprocs=nprocs,
    )
    if outcome.failures:
        first = outcome.failures[0]
        count = len(outcome.failures)
        reason = f"every synthetic person must be made, {count} failed: {first.reason}"
        raise CaseError(first.case, first.stage, reason)
    table = family_table or folder / FAMILY_TABLE
    write_private(table, pedigree_table(people).to_csv(index=False, lineterminator="\n"))
    describe_cohort(folder, _participants(people, config), readme=_README)
    write_text(folder / ".bidsignore", f"{FAMILY_TABLE}\nlogs/\n")
    least = min(outcome.results)
    _write_truth(folder / TRUTH, atlas, names, world, least)
    return SyntheticFamilies(people, table, folder / TRUTH, least)


def _heritability_map(atlas: Parcellation, names: Sequence[str], *, falloff_mm: float) -> Grid:
    """Return 1 inside the named regions, falling smoothly to 0 beside them.

    Parameters
    ----------
    atlas : Parcellation
        With the regions.
    names : sequence of str
        Regions.
    falloff_mm : float
        cos^2 of the distance from the nearest of them reaches 0 there.

    Returns
    -------
    (x, y, z) float
        Between 0 and 1.
    """
    inside = np.isin(atlas.labels, [atlas.region(name).index for name in names])
    spacing_mm = np.abs(np.diag(atlas.affine)[:3])
    distance_mm = ndimage.distance_transform_edt(~inside, sampling=spacing_mm)
    return np.asarray(np.cos(np.pi / 2 * np.minimum(distance_mm / falloff_mm, 1)) ** 2)


def _named_regions(atlas: Parcellation, areas: Sequence[str]) -> tuple[str, ...]:
    present = set(np.unique(atlas.labels).tolist())
    there = [region for region in atlas.regions if region.index in present]
    known = {region.name for region in there}
    found: list[str] = []
    for area in areas:
        names = [name for name in (area, f"L_{area}", f"R_{area}") if name in known]
        if area == _EVERY_AREA:
            names = [region.name for region in there if region.cortex is not None]
        if not names:
            msg = (
                f"a heritable region must be an HCP-MMP area such as V1 or L_V1 with voxels at "
                f"this resolution, got {area!r}; see atlas-HCPMMP1_dseg.tsv, or make voxels finer"
            )
            raise UserError(msg)
        found += names
    return tuple(dict.fromkeys(found))


def _write_person(person: Relation, world: _World) -> float:
    config, template = world.config, world.template
    rng = np.random.default_rng([config.seed, 1, person.number])
    spec = AnatomySpec(
        seed=int(rng.integers(2**32)),
        amplitude_mm=config.amplitude_mm,
        asymmetry_mm=config.asymmetry_mm,
        smoothness_mm=config.smoothness_mm,
        gamma=float(rng.uniform(0.9, 1.1)),
        bias=float(rng.uniform(0.0, 0.05)),
        noise=float(rng.uniform(0.005, 0.015)),
    )
    drawn = heritable_displacement(world.share, template.affine, spec, person.genes)
    moved = limit_folding(drawn, template.affine, least=config.least_jacobian)
    data = render_anatomy(template.data, template.affine, spec, moved)
    if config.sites > 1:
        site = _site(person, config)
        scanner = sample_scanner(np.random.default_rng([config.seed, 2, site]), config.scanner)
        data = apply_scanner(data, template.affine, scanner, rng)
    pose = sample_pose(rng, rotation_deg=config.rotation_deg, shift_mm=config.shift_mm)
    path = world.folder / person.name / "anat" / f"{person.name}_T1w.nii.gz"
    save_volume(path, data, pose @ template.affine)
    return least_jacobian(moved, template.affine)


def _site(person: Relation, config: FamilyCohortConfig) -> int:
    # By the name, whose order is random: a site tells nothing about relatives.
    return int(person.name.removeprefix("sub-")) % config.sites


def _participants(people: Sequence[Relation], config: FamilyCohortConfig) -> pd.DataFrame:
    rows = [
        {"participant_id": one.name, "sex": one.sex, "site": f"site{_site(one, config) + 1}"}
        for one in people
    ]
    return pd.DataFrame(rows)


def _write_truth(
    path: Path, atlas: Parcellation, names: Sequence[str], world: _World, least: float
) -> None:
    sizes = np.bincount(atlas.labels.ravel(), minlength=len(atlas.regions) + 1)
    sums = np.bincount(atlas.labels.ravel(), world.share.ravel(), minlength=len(sizes))
    rows = [
        {
            "region": region.name,
            "heritability": world.config.heritability if region.name in names else 0.0,
            "mean_over_voxels": sums[region.index] / max(sizes[region.index], 1),
            "voxels": int(sizes[region.index]),
        }
        for region in atlas.regions
    ]
    save_table(path, pd.DataFrame(rows).round(4))
    columns = {
        "heritability": "Inherited share of the displacement's variance, as asked for",
        "mean_over_voxels": "The same, as made: neighbours of heritable regions inherit a little",
        "voxels": "Voxels of the region at the scans' resolution",
    }
    content = {"Description": "Ground truth of a synthetic cohort of families", **columns}
    settings = world.config.model_dump(mode="json", exclude={"families", "seed"})
    write_json(
        path.with_suffix(".json"), {**content, "LeastJacobian": least, "Settings": settings}
    )
