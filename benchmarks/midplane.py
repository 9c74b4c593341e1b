"""Does the mid-sagittal plane turn with the head, and stay where it is beside a lesion?

    python benchmarks/midplane.py BIDS --masks MASKS --out midplane.tsv

Every scan is aligned as `hemitwin prepare` does it: brain mask, similarity to the template,
refined mid-plane. Then the same brain is

- turned by up to 20 degrees about each axis and shifted by up to 20 mm, once by its header alone
  (`header`) and once resampled with linear interpolation onto a new 1 mm grid along the world's
  axes (`resampled`): plane(T v) is compared with T plane(v);
- given a lesion of 2 to 60 ml on its native grid (`dark`, `bright`, and `mask`: a real lesion's
  shape, dark): plane(lesioned) is compared with plane(healthy).

Each time the brain is aligned from scratch. `degrees` is the angle between the two planes, `mm`
the largest distance between them over the brain's section ("at the brain's edge"), in native
millimetres.
"""

import argparse
import sys
import zlib
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.spatial.transform import Rotation

from hemitwin.atlases import load_template, save_table
from hemitwin.pipeline.stage.bids import Case, find_scans
from hemitwin.transforms import (
    LesionConfig,
    LesionMaskLibrary,
    Scan,
    brain_mask,
    inject_lesion,
    load_scan,
    refine_midplane,
    register_similarity,
    resample,
    sample_lesion,
)
from hemitwin.transforms.alignment.resampling import resample_array

TARGET_DEGREES, TARGET_MM = 0.5, 0.5
LARGEST_DEGREES, LARGEST_MM = 20.0, 20.0
GRID_MM = 1.0
VOLUMES_MM3 = ((2e3, 10e3), (10e3, 30e3), (30e3, 60e3))
LESIONS = {"dark": (-0.7, -0.4), "bright": (0.4, 0.8), "mask": (-0.7, -0.4)}


def main() -> None:
    arguments = parse()
    done = pd.read_csv(arguments.out, sep="\t") if arguments.resume else pd.DataFrame()
    known = set(done.get("case", ()))
    cases = [c for c in find_scans(arguments.bids)[: arguments.subjects] if c.name not in known]
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    work = partial(rows_of, seeds=arguments.seeds, masks=arguments.masks)
    tables = [done]
    with ProcessPoolExecutor(arguments.nprocs) as pool:
        for rows in pool.map(work, cases):
            tables.append(pd.DataFrame(rows))
            save_table(arguments.out, pd.concat(tables).round(4))  # an end in the middle costs one
            print(f"{rows[0]['case']} done", file=sys.stderr)
    table = pd.concat(tables, ignore_index=True)
    print(summary(table).to_string(float_format=lambda value: f"{value:.3f}"))
    worst = table.sort_values("mm", ascending=False).head(8)
    print(f"\nworst of {len(table)}:\n{worst.to_string(index=False)}\n\nwritten: {arguments.out}")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("bids", type=Path)
    parser.add_argument("--subjects", type=int, default=None, help="the first so many; all")
    parser.add_argument("--seeds", type=int, default=1, help="motions and lesions a subject")
    parser.add_argument("--masks", type=Path, default=None, help="folder of real lesion masks")
    parser.add_argument("--nprocs", type=int, default=1)
    parser.add_argument("--resume", action="store_true", help="keep OUT's rows, do the others")
    parser.add_argument("--out", type=Path, default=Path("midplane.tsv"))
    return parser.parse_args()


def rows_of(case: Case, *, seeds: int, masks: Path | None) -> list[dict[str, object]]:
    """Return one row a comparison for one subject."""
    scan = load_scan(case.scan)
    mask = brain_mask(scan)
    plane = align(scan, mask)
    rows: list[dict[str, object]] = []
    label = zlib.crc32(case.name.encode())
    for seed in range(seeds):
        rng = np.random.default_rng([seed, label])
        motion = sample_motion(rng, scan, mask)
        for test, (turned, turned_mask) in turned_scans(scan, mask, motion):
            found = align(turned, turned_mask)
            degrees, millimetres = plane_error(motion @ plane, found, turned, turned_mask)
            row = {"case": case.name, "seed": seed, "test": test, "lesion_ml": 0.0}
            rows.append(row | {"degrees": degrees, "mm": millimetres})
        for test, volume_ml, lesioned in lesioned_scans(scan, mask, plane, rng=rng, masks=masks):
            degrees, millimetres = plane_error(plane, align(lesioned, mask), scan, mask)
            row = {"case": case.name, "seed": seed, "test": test, "lesion_ml": volume_ml}
            rows.append(row | {"degrees": degrees, "mm": millimetres})
    return rows


def align(scan: Scan, mask: np.ndarray) -> np.ndarray:
    """Return native_from_template as `hemitwin prepare` finds it."""
    template = load_template(2.0)
    brain = Scan(np.where(mask, scan.data, 0).astype(np.float32), scan.affine)
    native = register_similarity(brain, template.data, template.affine, moving_mask=mask)
    coarse = resample(brain, template.data.shape, template.affine, native)
    return native @ refine_midplane(coarse, template.affine)


def sample_motion(rng: np.random.Generator, scan: Scan, mask: np.ndarray) -> np.ndarray:
    """Draw a rigid motion about the brain's centre, in native millimetres."""
    centre = scan.affine[:3, :3] @ np.argwhere(mask).mean(axis=0) + scan.affine[:3, 3]
    angles = rng.uniform(-LARGEST_DEGREES, LARGEST_DEGREES, 3)
    motion = np.eye(4)
    motion[:3, :3] = Rotation.from_euler("xyz", angles, degrees=True).as_matrix()
    shift = rng.uniform(-LARGEST_MM, LARGEST_MM, 3)
    motion[:3, 3] = centre + shift - motion[:3, :3] @ centre
    return motion


def turned_scans(
    scan: Scan, mask: np.ndarray, motion: np.ndarray
) -> Iterator[tuple[str, tuple[Scan, np.ndarray]]]:
    """Give the turned brain by its header, and resampled onto a grid of its own."""
    affine = motion @ scan.affine
    yield "header", (Scan(scan.data, affine), mask)
    inside = np.argwhere(mask)
    corners = np.array(list(np.ndindex(2, 2, 2)))
    box = np.where(corners, inside.max(axis=0), inside.min(axis=0)) @ affine[:3, :3].T
    low, high = (end(box + affine[:3, 3], axis=0) for end in (np.min, np.max))
    grid = np.diag([GRID_MM] * 3 + [1.0])
    grid[:3, 3] = low - 10 * GRID_MM
    x, y, z = (int(n) for n in np.ceil((high - low) / GRID_MM) + 20)
    voxels = np.linalg.inv(affine) @ grid
    share = resample_array(mask.astype(np.float32), voxels, (x, y, z))
    data = np.where(share >= 0.5, resample_array(scan.data, voxels, (x, y, z)), 0)
    yield "resampled", (Scan(data, grid), brain_mask(Scan(data, grid)))


def lesioned_scans(
    scan: Scan,
    mask: np.ndarray,
    native_from_template: np.ndarray,
    *,
    rng: np.random.Generator,
    masks: Path | None,
) -> Iterator[tuple[str, float, Scan]]:
    """Give the brain with one lesion of each kind, of a volume range drawn anew for each."""
    affine = np.linalg.inv(native_from_template) @ scan.affine
    template = load_template(2.0)
    room = resample(
        Scan(mask.astype(np.float32), scan.affine),
        template.data.shape,
        template.affine,
        native_from_template,
    )
    for kind, contrast in LESIONS.items():
        if kind == "mask" and masks is None:
            continue
        library = LesionMaskLibrary(masks) if kind == "mask" and masks else None
        config = LesionConfig(
            volume_mm3=VOLUMES_MM3[int(rng.integers(len(VOLUMES_MM3)))],
            native_mm3_per_mm3=abs(float(np.linalg.det(native_from_template[:3, :3]))),
            contrast=contrast,
            mask_share=1.0 if kind == "mask" else 0.0,
            least_inside=0.6,
        )
        spec = sample_lesion(rng, config, room >= 0.5, template.affine, mask_library=library)
        data, _ = inject_lesion(scan.data, affine, spec, mask, mask_library=library)
        yield kind, spec.volume_mm3 / 1000, Scan(data, scan.affine)


def plane_error(
    expected: np.ndarray, found: np.ndarray, scan: Scan, mask: np.ndarray
) -> tuple[float, float]:
    """Return the angle between two planes x = 0, and their largest distance over the brain."""
    (normal, point), (other, other_point) = (
        (m[:3, 0] / np.linalg.norm(m[:3, 0]), m[:3, 3]) for m in (expected, found)
    )
    degrees = np.rad2deg(np.arctan2(np.linalg.norm(np.cross(normal, other)), normal @ other))
    voxels = np.argwhere(mask[::2, ::2, ::2]) * 2
    world = voxels @ scan.affine[:3, :3].T + scan.affine[:3, 3]
    height = (world - point) @ normal
    section = (world - height[:, None] * normal)[np.abs(height) < 2]
    return float(degrees), float(np.abs((section - other_point) @ other).max())


def summary(table: pd.DataFrame) -> pd.DataFrame:
    """Return a row a test (lesions also by volume) with the distribution of both errors."""
    ranges = pd.cut(table["lesion_ml"], [-1, 0, 10, 30, 60], labels=["", "<10", "<30", "<60"])
    named = table.assign(test=(table["test"] + " " + ranges.astype(str)).str.strip())
    lesions = table[table["lesion_ml"] > 0].assign(test="all lesions")
    rows = {}
    for test, part in pd.concat([named, lesions]).groupby("test", sort=False):
        good = (part["degrees"] <= TARGET_DEGREES) & (part["mm"] <= TARGET_MM)
        rows[test] = {"n": len(part), "within": good.mean()} | {
            f"{name} {label}": part[name].quantile(q)
            for name in ("degrees", "mm")
            for label, q in (("median", 0.5), ("p95", 0.95), ("max", 1.0))
        }
    return pd.DataFrame(rows).T


if __name__ == "__main__":
    main()
