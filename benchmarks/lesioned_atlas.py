"""Does a lesion drag the regions along, and what do masks mend?

    python benchmarks/lesioned_atlas.py PREPARED --masks MASKS [--run RUN] [--subjects N]

A lesion is put into each prepared brain: dark, 20 to 60 native ml, in the shape of a real mask.
The template is registered to the brain as it was, and to the lesioned one without a mask, with
the lesion's exact mask, and, with `--run` (a decoder; its test subjects alone are taken), with
what the run draws: the region about its map's peak, where the brain scores above its threshold.
What the registration of the healthy brain says is taken for true. Medians over lesions with 95 %
bootstrap intervals: how far the deformation is off (mm, median over voxels) inside the lesion and
within 10 mm around it, and the share of the labelled voxels there that have another region.
"""

import argparse
import os
import tempfile
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from scipy import ndimage

from hemitwin.atlases import hcpmmp_atlas, save_table, save_volume
from hemitwin.pipeline.cohort.brains import Brain, find_prepared, load_brain
from hemitwin.pipeline.regions.hidden_lesions import marked_region
from hemitwin.pipeline.regions.registration import LesionMask, register_subject
from hemitwin.pipeline.training.compared import HALVES
from hemitwin.pipeline.training.runs import Run, load_run
from hemitwin.pipeline.training.sources.pairs import LesionSource
from hemitwin.transforms import Deformation, LesionConfig, LesionMaskLibrary, Scan, coarsen

LESIONS = LesionConfig(volume_mm3=(20000.0, 60000.0), contrast=(-0.6, -0.35), mask_share=1.0)
AROUND_MM = 10.0


def main() -> None:
    arguments = parse()
    torch.set_num_threads(arguments.threads)
    load = ", ".join(f"{one:.1f}" for one in os.getloadavg())
    print(f"hemitwin {version('hemitwin')}; load {load}", flush=True)
    rows = list(compared(arguments))
    table = pd.DataFrame(rows)
    save_table(arguments.out, table.round(4))
    rng = np.random.default_rng(0)
    for way, part in table.groupby("way", sort=False):
        figures = [
            f"{name} {interval(part[name].to_numpy(float), rng)}"
            for name in ("inside_mm", "around_mm", "relabelled")
        ]
        print(f"{way:18} {len(part):3} lesions  {'  '.join(figures)}")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("prepared", type=Path, help="what `hemitwin prepare` wrote")
    parser.add_argument("--masks", type=Path, required=True, help="folder of real lesion masks")
    parser.add_argument("--run", type=Path, help="run with a decoder")
    parser.add_argument("--subjects", type=int)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path, default=Path("lesioned_atlas.tsv"))
    return parser.parse_args()


def interval(values: np.ndarray, rng: np.random.Generator) -> str:
    drawn = np.median(rng.choice(values, (2000, len(values))), axis=1)
    low, high = np.quantile(drawn, [0.025, 0.975])
    return f"{np.median(values):.3f} [{low:.3f}, {high:.3f}]"


def compared(arguments: argparse.Namespace) -> Iterator[dict[str, object]]:
    run = None if arguments.run is None else load_run(arguments.run, device=torch.device("cpu"))
    cases = find_prepared(arguments.prepared)
    if run is not None:
        cases = tuple(case for case in cases if case.subject in run.split.subjects("test"))
    source = LesionSource(LESIONS, LesionMaskLibrary(arguments.masks))
    for case in cases[: arguments.subjects]:
        brain = load_brain(case, 2.0)
        rng = np.random.default_rng([arguments.seed, *case.name.encode()])
        spec = source.sample(brain, rng, "L" if rng.integers(2) else "R")
        volume, mask = source.inject(brain, spec)
        lesion = mask.numpy()
        healthy = register_subject(scan_of(brain, brain.volume), None)
        lesioned = scan_of(brain, volume)
        ways: dict[str, np.ndarray | None] = {"no mask": None, "exact mask": lesion}
        if run is not None:
            ways["what a run draws"] = drawn(run, brain, volume)
        for way, hidden in ways.items():
            known = None if hidden is None else as_mask(brain, hidden)
            found = register_subject(lesioned, known)
            row = {"case": case.name, "ml": spec.volume_mm3 / 1000, "way": way}
            yield {**row, **differences(brain, lesion, healthy, found)}
        print(f"{case.name} done", flush=True)


def scan_of(brain: Brain, volume: torch.Tensor) -> Scan:
    return Scan(volume[0].numpy(), brain.affine, brain.case.scan)


def as_mask(brain: Brain, hidden: np.ndarray) -> LesionMask:
    path = Path(tempfile.mkdtemp()) / "mask.nii.gz"
    save_volume(path, hidden, brain.affine)
    return LesionMask(path, np.eye(4))


def drawn(run: Run, brain: Brain, volume: torch.Tensor) -> np.ndarray | None:
    """Draw on the run's grid, and bring the mask back to the brain's."""
    factor = round(run.config.volumes.resolution_mm / abs(brain.affine[0, 0]))
    coarse, affine = coarsen(volume, brain.affine, factor=factor)
    share, _ = coarsen((volume > 0).float(), brain.affine, factor=factor)
    coarse = torch.where(share >= 0.5, coarse / share.clamp(min=0.5), 0.0)
    small = Brain(coarse, coarse[0].numpy() > 0, affine, factor, 1.0, brain.case)
    left, right = HALVES.images(small)
    with torch.inference_mode():
        output = run.network(left[None], right[None])
    if output.anomaly is None or float(output.score) <= run.threshold:
        return None
    inside = marked_region(output.anomaly)
    mask = HALVES.join(small, list(inside.movedim(1, 0)))[0].numpy() > 0.5
    return np.kron(mask, np.ones((factor,) * 3, dtype=bool))


def differences(
    brain: Brain, lesion: np.ndarray, healthy: Deformation, found: Deformation
) -> dict[str, float]:
    size = abs(brain.affine[0, 0])
    distance = ndimage.distance_transform_edt(~lesion) * size
    around = brain.mask & (distance > 0) & (distance <= AROUND_MM)
    off = np.linalg.norm(healthy.shift_mm - found.shift_mm, axis=-1)
    voxels = np.argwhere(around | lesion)
    points = voxels @ brain.affine[:3, :3].T + brain.affine[:3, 3]
    one, other = (
        hcpmmp_atlas().label_points(field.to_template(points)) for field in (healthy, found)
    )
    named = (one > 0) | (other > 0)
    return {
        "inside_mm": float(np.median(off[lesion])),
        "around_mm": float(np.median(off[around])),
        "relabelled": float((one != other)[named].mean()),
    }


if __name__ == "__main__":
    main()
