"""How long does a folder of slices take, beside loops that people write?

    python benchmarks/slicing.py DERIVATIVES --subjects 12 --repeats 3

DERIVATIVES is what `hemitwin prepare` wrote; the scans that it was made from must be there. Axial
slices every 4 mm, of the prepared volumes and of the native scans, as 8 bit PNG:

- hemitwin: `slice_dataset`, with records, tables, split and card, one subject at a time and two.
  Native scans are sampled through their transform, masked, and 224 x 224 at 0.868 mm; the loops
  take planes of voxels as they are, which is less.
- load once: nibabel loads each volume once, PIL saves, one process.
- reopen: the same, but the volume is opened for each slice, as a `Dataset` does that looks one
  slice up at a time.

The loops' window is the same, percentiles above 0; they save with PIL's own compression, and
`load once, fast PNG` with zlib's fastest level. They write as many slices as HemiTwin.
Contestants run in turn, each in a process of its own; times are of the work without imports,
medians of the repeats, memory is the process's peak.
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path

import nibabel as nib
import numpy as np
from PIL import Image

from hemitwin.pipeline.cohort.brains import find_prepared
from hemitwin.pipeline.preparation.native_space import NativeSpace
from hemitwin.pipeline.slices.slices import SliceConfig, slice_dataset
from hemitwin.pipeline.stage.bids import Case

STEP_MM = 4.0
NATIVE = {"source": "native", "spacing_mm": 0.868, "pixels": 224}


def volume_of(case: Case, source: str) -> Path:
    return case.scan if source == "prepared" else NativeSpace.of(case, "benchmark").scan


def indices_of(data: np.ndarray, count: int) -> np.ndarray:
    """Spread as many planes over the brain as the other contestants cut."""
    seen = np.flatnonzero((data > 0).any(axis=(0, 1)))
    return np.linspace(seen[0], seen[-1], count).round().astype(int)


def save(picture: np.ndarray, window: tuple[float, float], path: Path, level: int | None) -> None:
    low, high = window
    greys = np.clip((picture - low) / (high - low) * 255, 0, 255).astype(np.uint8)
    options = {} if level is None else {"compress_level": level}
    Image.fromarray(np.ascontiguousarray(greys.T[::-1])).save(path, **options)


def loop(
    cases: Sequence[Case], source: str, out: Path, *, counts: Sequence[int], kind: str
) -> int:
    """Write slices as a loop does; return how many."""
    for case, count in zip(cases, counts, strict=True):
        path = volume_of(case, source)
        data = nib.load(path).get_fdata(dtype=np.float32)
        window = tuple(np.percentile(data[data > 0], [0.5, 99.5]).tolist())
        folder = out / case.subject
        folder.mkdir(parents=True)
        for number in indices_of(data, count):
            plane = data[:, :, number]
            if kind == "reopen":
                plane = nib.load(path).get_fdata(dtype=np.float32)[:, :, number]
            level = 1 if kind == "load once, fast PNG" else None
            save(plane, window, folder / f"{number:03d}.png", level)
    return sum(counts)


def hemitwin(cases: Sequence[Case], root: Path, source: str, out: Path, nprocs: int) -> list[int]:
    options = NATIVE if source == "native" else {}
    config = SliceConfig(step_mm=STEP_MM, **options)
    labels = tuple(case.subject for case in cases)
    made = slice_dataset(root, out, config=config, labels=labels, nprocs=nprocs)
    return [len(rows) for rows in made.results]


def run(options: argparse.Namespace) -> None:
    """Run one contestant, and print what it took."""
    cases = find_prepared(options.derivatives, quiet=True)[: options.subjects]
    with tempfile.TemporaryDirectory() as name:
        out = Path(name) / "out"
        if options.contestant.startswith("hemitwin"):
            nprocs = int(options.contestant[-1])
            work: Callable[[], object] = lambda: hemitwin(  # noqa: E731
                cases, options.derivatives, options.source, out, nprocs
            )
        else:
            counts = json.loads(options.counts)
            work = lambda: loop(  # noqa: E731
                cases, options.source, out, counts=counts, kind=options.contestant
            )
        started, used = time.perf_counter(), time.process_time()
        result = work()
        wall, cpu = time.perf_counter() - started, time.process_time() - used
        size = sum(path.stat().st_size for path in out.rglob("*.png")) / 2**20
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    taken = {"wall": wall, "cpu": cpu, "peak": peak, "MB": size}
    print(json.dumps(taken | {"counts": result if isinstance(result, list) else None}))


def contest(options: argparse.Namespace, source: str, name: str, counts: Sequence[int]) -> dict:
    command = [sys.executable, __file__, str(options.derivatives), "--contestant", name]
    command += ["--source", source, "--subjects", str(options.subjects)]
    command += ["--counts", json.dumps(list(counts))]
    done = subprocess.run(command, capture_output=True, text=True, check=True)  # noqa: S603
    return dict(json.loads(done.stdout.splitlines()[-1]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("derivatives", type=Path)
    parser.add_argument("--subjects", type=int, default=12)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--no-reopen", action="store_true", help="leave the slow loop out")
    parser.add_argument("--sources", nargs="+", default=["prepared", "native"])
    parser.add_argument("--contestant", help=argparse.SUPPRESS)
    parser.add_argument("--source", help=argparse.SUPPRESS)
    parser.add_argument("--counts", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.contestant:
        run(options)
        return
    packages = ", ".join(f"{name} {version(name)}" for name in ("hemitwin", "nibabel", "pillow"))
    load = ", ".join(f"{one:.1f}" for one in os.getloadavg())
    print(f"{packages}; {os.cpu_count()} cores, load {load}; {options.subjects} subjects")
    names = ["hemitwin 1", "hemitwin 2", "load once", "load once, fast PNG"]
    names += [] if options.no_reopen else ["reopen"]
    for source in options.sources:
        times: dict[str, list[dict]] = {name: [] for name in names}
        counts: Sequence[int] = ()
        for _ in range(options.repeats):
            for name in names:
                if name == "reopen" and times[name]:
                    continue  # once tells it
                times[name].append(contest(options, source, name, counts))
                counts = times[names[0]][0]["counts"]
        best = statistics.median(one["wall"] for one in times["hemitwin 2"])
        print(f"\n{source}: {sum(counts)} slices")
        print(f"{'contestant':22} {'s':>7} {'CPU s':>6} {'/ hemitwin 2':>13}  peak MB  PNG MB")
        for name, found in times.items():
            wall, cpu, peak = (
                statistics.median(one[key] for one in found) for key in ("wall", "cpu", "peak")
            )
            figures = f"{wall:7.2f} {cpu:6.2f} {wall / best:13.2f} {peak:8.0f}"
            print(f"{name:22} {figures} {found[0]['MB']:7.1f}")
    print(f"\nload {os.getloadavg()[0]:.1f} at the end")


if __name__ == "__main__":
    main()
