"""How fast are stored volumes read, beside MONAI's PersistentDataset, and in what memory?

    python benchmarks/cache.py DERIVATIVES --resolution-mm 4 --repeats 5

Every contestant stores the same volumes: those of `hemitwin prepare`, brought to the network's
grid. Contestants run in turn, each in fresh processes: one that fills the store (`miss`), and one
that reads it. `first` is the first reading of a volume in a process, `hit` every later one, as in
all epochs of training but the first; each reading ends with a sum over the voxels, so that a map
is really read. MONAI's dataset does the same work each time. One thread.

- `hemitwin`: `VolumeStore`; it compares the scan's and the entry's SHA-256 at the first reading.
- `monai, default`: a second reading has lost the affine; changed settings and replaced files go
  unnoticed.
- `monai, careful`: track_meta=True and hash_transform=pickle_hashing, so that affine and changed
  settings are right; a file replaced at the same path still goes unnoticed.

`MB held` is what a process has grown by once it holds every volume and has read all voxels:
anonymous memory (cannot be given back) and mapped files (shared by processes, given back under
pressure). `loaded` holds each volume in memory, as before there was a store.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Hashable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from monai.data.dataset import PersistentDataset
from monai.data.meta_tensor import MetaTensor
from monai.data.utils import pickle_hashing
from monai.transforms.transform import MapTransform

from hemitwin.pipeline.cohort.brains import find_prepared, load_brain
from hemitwin.pipeline.cohort.volume_store import VolumeStore
from hemitwin.pipeline.stage.bids import Case

NAMES = ("hemitwin", "monai, default", "monai, careful")
LOADED = "loaded"

Read = Callable[[int], torch.Tensor]


class LoadBraind(MapTransform):
    """Load a prepared volume at the network's grid, as a MONAI transform."""

    def __init__(self, cases: Mapping[str, Case], resolution_mm: float) -> None:
        super().__init__(["image"])
        self.resolution_mm = resolution_mm
        self._cases = cases

    def __call__(self, data: Mapping[Hashable, str]) -> dict[Hashable, torch.Tensor]:
        brain = load_brain(self._cases[data["image"]], self.resolution_mm)
        return {"image": MetaTensor(brain.volume, affine=torch.as_tensor(brain.affine))}

    def __getstate__(self) -> dict[str, object]:
        return {"resolution_mm": self.resolution_mm}


def main() -> None:
    arguments = parse()
    if arguments.worker:
        print(json.dumps(work(arguments)))
        return
    runs: dict[str, list[dict[str, float]]] = {name: [] for name in (*NAMES, LOADED)}
    for turn in range(arguments.repeats):
        with tempfile.TemporaryDirectory() as folder:
            for name in NAMES if turn % 2 == 0 else reversed(NAMES):
                filled = start(name, "fill", arguments, Path(folder))
                read = start(name, "read", arguments, Path(folder))
                runs[name].append({**read, "miss": filled["miss"]})
            runs[LOADED].append(start(LOADED, "read", arguments, Path(folder)))
    report(runs, arguments)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("derivatives", type=Path)
    parser.add_argument("--resolution-mm", type=float, default=4.0)
    parser.add_argument("--subjects", type=int, default=None, help="the first so many; all")
    parser.add_argument("--epochs", type=int, default=10, help="readings of each volume")
    parser.add_argument("--repeats", type=int, default=5, help="processes for each contestant")
    parser.add_argument("--worker", nargs=2, help=argparse.SUPPRESS)
    parser.add_argument("--store", type=Path, help=argparse.SUPPRESS)
    return parser.parse_args()


def start(name: str, task: str, arguments: argparse.Namespace, store: Path) -> dict[str, float]:
    """Run one contestant in a fresh process."""
    command = [sys.executable, __file__, str(arguments.derivatives), "--worker", name, task]
    command += ["--store", str(store / name.replace(", ", "-")), "--epochs", str(arguments.epochs)]
    command += ["--resolution-mm", str(arguments.resolution_mm)]
    if arguments.subjects:
        command += ["--subjects", str(arguments.subjects)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)  # noqa: S603
    return json.loads(done.stdout.splitlines()[-1])


def work(arguments: argparse.Namespace) -> dict[str, float]:
    torch.set_num_threads(1)
    name, task = arguments.worker
    cases = find_prepared(arguments.derivatives)[: arguments.subjects]
    read = reader(name, cases, arguments)
    if task == "fill":
        return {"miss": float(np.median(timed(read, len(cases))))}
    before = memory_mb()
    first = timed(read, len(cases))
    later = [second for _ in range(arguments.epochs) for second in timed(read, len(cases))]
    if name.startswith("monai"):  # it holds nothing; its user would keep the tensors
        kept = [read(number) for number in range(len(cases))]
    after = memory_mb()
    if name.startswith("monai"):
        del kept
    grown = {key: after[key] - before[key] for key in after}
    total = float(sum(read(number).double().sum() for number in range(len(cases))))
    times = {"first": float(np.median(first)), "hit": float(np.median(later))}
    return {**times, **grown, "total": total}


def reader(name: str, cases: Sequence[Case], arguments: argparse.Namespace) -> Read:
    """Return what reads a volume by its number."""
    if name in {"hemitwin", LOADED}:
        store = VolumeStore(arguments.store) if name == "hemitwin" else None
        held: dict[int, torch.Tensor] = {}

        def read(number: int) -> torch.Tensor:
            if number not in held:
                held[number] = load_brain(
                    cases[number], arguments.resolution_mm, store=store
                ).volume
            return held[number]

        return read
    items = [{"image": str(case.scan)} for case in cases]
    transform = LoadBraind({str(case.scan): case for case in cases}, arguments.resolution_mm)
    options = {"track_meta": True, "hash_transform": pickle_hashing} if "careful" in name else {}
    dataset = PersistentDataset(items, [transform], arguments.store, **options)
    return lambda number: dataset[number]["image"]


def timed(read: Read, count: int) -> list[float]:
    seconds = []
    for number in range(count):
        begin = time.perf_counter()
        np.asarray(read(number)).sum()
        seconds.append(time.perf_counter() - begin)
    return seconds


def memory_mb() -> dict[str, float]:
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    fields = dict(line.split(":", 1) for line in lines)
    return {key: int(fields[key].split()[0]) / 1024 for key in ("RssAnon", "RssFile")}


def report(runs: dict[str, list[dict[str, float]]], arguments: argparse.Namespace) -> None:
    versions = ", ".join(f"{one} {version(one)}" for one in ("hemitwin", "monai", "torch"))
    load = ", ".join(f"{one:.1f}" for one in os.getloadavg())
    count = len(find_prepared(arguments.derivatives)[: arguments.subjects])
    print(f"{versions}; {os.cpu_count()} cores, load {load}")
    print(f"{count} volumes at {arguments.resolution_mm:g} mm, milliseconds a volume (medians)\n")
    totals = {round(run["total"], 3) for own in runs.values() for run in own}
    print(f"same voxels read by all: {'yes' if len(totals) == 1 else f'NO, {totals}'}\n")
    medians = {
        name: {key: float(np.median([run[key] for run in own])) for key in own[0]}
        for name, own in runs.items()
    }
    head = ("miss", "first", "hit", "hit / ours", "MB held", "of it mapped")
    print(f"{'contestant':18}" + "".join(f"{one:>14}" for one in head))
    for name, own in medians.items():
        miss = f"{1000 * own['miss']:>14.2f}" if "miss" in own else f"{'':>14}"
        times = f"{1000 * own['first']:>14.3f}{1000 * own['hit']:>14.3f}"
        ratio = f"{own['hit'] / medians['hemitwin']['hit']:>14.1f}"
        held = f"{own['RssAnon'] + own['RssFile']:>14.1f}{own['RssFile']:>14.1f}"
        print(f"{name:18}{miss}{times}{ratio}{held}")


if __name__ == "__main__":
    main()
