"""How fast is `prepare` without registration, beside MONAI and TorchIO doing the same steps?

    python benchmarks/prepare.py BIDS --subjects 6 --repeats 3

Every contestant brings the same scans from disk to RAS+ axes, 2 mm voxels and intensities between
the 1st and the 99th percentile. They run in turn, each in a process of its own that first does
one scan untimed. Medians over scans: seconds on the clock, seconds of all cores together (which
another load on the machine disturbs less); the memory is the process's peak.

- `hemitwin, same steps`: `load_scan`, `resample`, `robust_scale`.
- `hemitwin, prepare`: what `hemitwin prepare` does besides registration: the same with a brain
  mask, the brain resampled apart from its background, and intensities scaled inside it.
- `monai`: LoadImaged, EnsureChannelFirstd, Orientationd, Spacingd and
  ScaleIntensityRangePercentilesd.
- `torchio`: ToCanonical, Resample, RescaleIntensity. `torchio, antialias`: with the smoothing
  before resampling that hemitwin always does.
- `hemitwin, registration`: what was left out, for scale.

Voxels are compared on each peer's own grid, where the peer's value lies between the percentiles.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from hemitwin.atlases import load_template
from hemitwin.pipeline.stage.bids import find_scans
from hemitwin.transforms import (
    Scan,
    brain_mask,
    load_scan,
    refine_midplane,
    register_similarity,
    resample,
    robust_scale,
    voxel_sizes,
)

SPACING_MM = 2.0
LOW, HIGH = 1.0, 99.0
OURS = ("hemitwin, same steps", "hemitwin, prepare")
PEERS = ("monai", "torchio", "torchio, antialias")
REGISTRATION = "hemitwin, registration"

Result = tuple[np.ndarray, np.ndarray]
"""Voxels and affine."""


def main() -> None:
    arguments = parse()
    scans = [case.scan for case in find_scans(arguments.bids)[: arguments.subjects]]
    if arguments.worker:
        work(arguments.worker, scans, arguments.out)
        return
    names = [name for name in (*OURS, *PEERS) if is_there(name)]
    with tempfile.TemporaryDirectory() as folder:
        runs: dict[str, list[dict[str, list[float]]]] = {name: [] for name in names}
        for turn in range(arguments.repeats):
            for name in names if turn % 2 == 0 else reversed(names):
                runs[name].append(start(name, arguments, Path(folder)))
        registration = start(REGISTRATION, arguments, Path(folder))
        report(runs, registration, len(scans))
        compare([name for name in names if name in PEERS], scans, Path(folder))


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("bids", type=Path)
    parser.add_argument("--subjects", type=int, default=6, help="the first so many")
    parser.add_argument("--repeats", type=int, default=3, help="processes for each contestant")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, help=argparse.SUPPRESS)
    return parser.parse_args()


def is_there(name: str) -> bool:
    package = name.partition(",")[0]
    found = find_spec(package) is not None
    if not found:
        print(f"{name}: left out, {package} cannot be imported (see benchmarks/README.md)")
    return found


def start(name: str, arguments: argparse.Namespace, folder: Path) -> dict[str, list[float]]:
    """Run one contestant in a fresh process."""
    command = [sys.executable, __file__, str(arguments.bids), "--worker", name]
    command += ["--subjects", str(arguments.subjects), "--out", str(folder)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)  # noqa: S603
    return json.loads(done.stdout.splitlines()[-1])


def work(name: str, scans: list[Path], out: Path) -> None:
    run = contestant(name)
    run(scans[0])
    seconds, cpu = [], []
    for number, scan in enumerate(scans):
        begin, begin_cpu = time.perf_counter(), time.process_time()
        data, affine = run(scan)
        seconds.append(time.perf_counter() - begin)
        cpu.append(time.process_time() - begin_cpu)
        np.savez(out / f"{name}-{number}.npz", data=data, affine=affine)
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"seconds": seconds, "cpu": cpu, "peak_mb": [peak_mb]}))


def contestant(name: str) -> Callable[[Path], Result]:
    makers = {
        "hemitwin, same steps": lambda: same_steps,
        "hemitwin, prepare": lambda: prepare,
        REGISTRATION: registration,
        "monai": monai,
        "torchio": lambda: torchio(antialias=False),
        "torchio, antialias": lambda: torchio(antialias=True),
    }
    return makers[name]()


def same_steps(path: Path) -> Result:
    scan = load_scan(path)
    shape, affine = spaced_grid(scan)
    data = resample(scan, shape, affine, np.eye(4))
    return robust_scale(data, np.ones(shape, dtype=bool), low=LOW, high=HIGH), affine


def prepare(path: Path) -> Result:
    scan = load_scan(path)
    mask = brain_mask(scan)
    brain = Scan(np.where(mask, scan.data, np.float32(0)), scan.affine)
    shape, affine = spaced_grid(scan)
    data = resample(brain, shape, affine, np.eye(4))
    inside = resample(Scan(mask.astype(np.float32), scan.affine), shape, affine, np.eye(4))
    kept = inside >= 0.5
    data = np.where(kept, data / np.maximum(inside, 0.5), 0).astype(np.float32)
    return robust_scale(data, kept, low=LOW, high=HIGH), affine


def registration() -> Callable[[Path], Result]:
    template = load_template(SPACING_MM)

    def run(path: Path) -> Result:
        scan = load_scan(path)
        mask = brain_mask(scan)
        native = register_similarity(scan, template.data, template.affine, moving_mask=mask)
        coarse = resample(scan, template.data.shape, template.affine, native)
        return coarse, native @ refine_midplane(coarse, template.affine)

    return run


def monai() -> Callable[[Path], Result]:
    from monai.transforms import (  # noqa: PLC0415 (a process imports its own contestant only)
        Compose,
        EnsureChannelFirstd,
        LoadImaged,
        Orientationd,
        ScaleIntensityRangePercentilesd,
        Spacingd,
    )

    steps = Compose(
        [
            LoadImaged("image"),
            EnsureChannelFirstd("image"),
            Orientationd("image", axcodes="RAS", labels=None),
            Spacingd("image", pixdim=(SPACING_MM,) * 3, mode="bilinear"),
            ScaleIntensityRangePercentilesd("image", LOW, HIGH, 0.0, 1.0, clip=True),
        ]
    )

    def run(path: Path) -> Result:
        image = steps({"image": path})["image"]
        return image.as_tensor()[0].numpy(), image.affine.numpy()

    return run


def torchio(*, antialias: bool) -> Callable[[Path], Result]:
    import torchio as tio  # noqa: PLC0415 (no dependency)

    steps = tio.Compose(
        [
            tio.ToCanonical(),
            tio.Resample(SPACING_MM, antialias=antialias),
            tio.RescaleIntensity((0, 1), percentiles=(LOW, HIGH)),
        ]
    )

    def run(path: Path) -> Result:
        image = steps(tio.Subject(image=tio.ScalarImage(path)))["image"]
        return image.data[0].numpy(), image.affine

    return run


def spaced_grid(scan: Scan) -> tuple[tuple[int, int, int], np.ndarray]:
    """The grid of 2 mm voxels along a scan's own axes, from its first voxel."""
    sizes = np.array(voxel_sizes(scan.affine))
    steps = (np.array(scan.data.shape) - 1) * sizes / SPACING_MM
    x, y, z = (int(np.ceil(step)) + 1 for step in steps)
    return (x, y, z), scan.affine @ np.diag([*(SPACING_MM / sizes), 1.0])


def report(
    runs: dict[str, list[dict[str, list[float]]]],
    registration_run: dict[str, list[float]],
    count: int,
) -> None:
    packages = ("hemitwin", "monai", "torchio", "torch", "numpy", "scipy")
    versions = ", ".join(f"{name} {version(name)}" for name in packages if find_spec(name))
    load = ", ".join(f"{one:.1f}" for one in os.getloadavg())
    print(f"{versions}; {os.cpu_count()} cores, load {load}; {count} scans\n")
    wall, cpu = (
        {
            name: float(np.median([s for run in own for s in run[key]]))
            for name, own in runs.items()
        }
        for key in ("seconds", "cpu")
    )
    print(f"{'':24}{'s / scan':>10}{'CPU s':>8}{'peak MB':>9}   times as long as ours: wall (CPU)")
    print(f"{'contestant':51}" + "".join(f"{ours.partition(', ')[2]:>19}" for ours in OURS))
    for name, own in runs.items():
        peak = max(run["peak_mb"][0] for run in own)
        ratios = "".join(
            f"{wall[name] / wall[ours]:>11.2f} ({cpu[name] / cpu[ours]:5.2f})" for ours in OURS
        )
        print(f"{name:24}{wall[name]:>10.3f}{cpu[name]:>8.3f}{peak:>9.0f}{ratios}")
    apart = float(np.median(registration_run["seconds"]))
    print(f"{REGISTRATION:24}{apart:>10.3f}  (loading and mask included)\n")


def compare(peers: list[str], scans: list[Path], folder: Path) -> None:
    """Say how far our voxels are from each peer's, on that peer's grid."""
    print(f"{'voxels against':24}{'correlation':>12}{'mean |d|':>10}{'99 % |d|':>10}")
    for name in peers:
        rows = []
        for number, path in enumerate(scans):
            with np.load(folder / f"{name}-{number}.npz") as theirs:
                data, affine = theirs["data"], theirs["affine"]
            x, y, z = data.shape
            moved = resample(load_scan(path), (x, y, z), affine, np.eye(4))
            ours = robust_scale(moved, np.ones(data.shape, dtype=bool), low=LOW, high=HIGH)
            within = (data > 0.01) & (data < 0.99)
            apart = np.abs(ours - data)[within]
            fit = np.corrcoef(ours[within], data[within])[0, 1]
            rows.append((fit, apart.mean(), np.percentile(apart, 99)))
        fit, mean, most = np.median(rows, axis=0)
        print(f"{name:24}{fit:>12.4f}{mean:>10.4f}{most:>10.4f}")


if __name__ == "__main__":
    main()
