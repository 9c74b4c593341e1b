"""How long do many maps over all regions take, against nilearn's masker?

    python benchmarks/region_values.py [--maps 128]

Maps of noise at 2 mm over the 379 regions: `region_values` and `NiftiLabelsMasker` (labels on the
maps' grid, nothing to resample, no standardisation), alternately; medians, the ratio, the largest
difference of the means, and the peak memory that each adds (in a process of its own).
"""

import argparse
import os
import resource
import tempfile
import time
from importlib.metadata import version
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from nibabel.nifti1 import Nifti1Image
from nilearn.maskers import NiftiLabelsMasker

from hemitwin.atlases import Parcellation, hcpmmp_volume, region_values, template_grid

WAYS = ("hemitwin", "nilearn")


def main() -> None:
    arguments = parse()
    load = ", ".join(f"{one:.1f}" for one in os.getloadavg())
    print(f"hemitwin {version('hemitwin')}, nilearn {version('nilearn')}; load {load}", flush=True)
    context = get_context("spawn")
    with tempfile.TemporaryDirectory() as folder:
        atlas(Path(folder))  # built once, outside of what is timed
        seconds: dict[str, list[float]] = {way: [] for way in WAYS}
        memory: dict[str, float] = {}
        means: dict[str, np.ndarray] = {}
        for _ in range(arguments.repeats):
            for way in WAYS:
                with context.Pool(1) as pool:
                    taken, memory[way], means[way] = pool.apply(
                        run, (way, arguments.maps, Path(folder))
                    )
                seconds[way].append(taken)
    for way in WAYS:
        print(f"{way:9} {np.median(seconds[way]):7.2f} s, {memory[way]:6.0f} MB more")
    print(f"ratio     {np.median(seconds['nilearn']) / np.median(seconds['hemitwin']):7.1f}")
    apart = np.nanmax(np.abs(means["hemitwin"] - means["nilearn"]))
    print(f"largest difference of the means {apart:.1e}")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--maps", type=int, default=128)
    parser.add_argument("--repeats", type=int, default=3)
    return parser.parse_args()


def atlas(folder: Path) -> Parcellation:
    return hcpmmp_volume(*template_grid(2.0), cache_dir=folder)


def run(way: str, count: int, folder: Path) -> tuple[float, float, np.ndarray]:
    parcels = atlas(folder)
    rng = np.random.default_rng(0)
    maps = rng.standard_normal((count, *parcels.labels.shape), dtype=np.float32)
    labels = Nifti1Image(parcels.labels, parcels.affine)
    images = Nifti1Image(np.moveaxis(maps, 0, -1), parcels.affine)
    before = peak_mb()
    start = time.perf_counter()
    if way == "hemitwin":
        means = region_values(maps, parcels.affine, parcels, statistic="mean")
    else:
        masker = NiftiLabelsMasker(labels, standardize=None, resampling_target=None)
        means = masker.fit_transform(images)
    return time.perf_counter() - start, peak_mb() - before, means


def peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    main()
