"""How long a rerun with nothing to do takes over a cohort, stage by stage.

One synthetic person walks through prepare, atlas, explain, parcellate, asymmetry and export; the
results are copied so often that a cohort stands there. Each stage is then run again twice: the
first time after the copy, when times and numbers of all files differ and their content is read;
the second time as any later rerun. The peer is what a rerun must do without remembering files:
read each result once (SHA-256).

    python benchmarks/rerun.py --subjects 1000

Seconds a stage and in all; nothing may be made again (checked).
"""

import argparse
import hashlib
import json
import logging
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from hemitwin.models import EncoderConfig
from hemitwin.pipeline.cohort.config import DataConfig, SplitConfig
from hemitwin.pipeline.explanation.explain import explain
from hemitwin.pipeline.exports.export import export
from hemitwin.pipeline.preparation.prepare import PrepareConfig, prepare
from hemitwin.pipeline.regions.atlas import build_atlases
from hemitwin.pipeline.regions.parcellate import parcellate
from hemitwin.pipeline.simulation.people import CohortConfig, write_cohort
from hemitwin.pipeline.stage.runner import Outcome
from hemitwin.pipeline.training.config import RunConfig, TrainingConfig
from hemitwin.pipeline.training.train import train

Stage = Callable[[], Outcome[object]]


class _Remade(logging.Handler):
    """Counts the products that a stage made again."""

    count = 0

    def emit(self, record: logging.LogRecord) -> None:
        self.count += "made again" in record.getMessage()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--subjects", type=int, default=1000)
    subjects = parser.parse_args().subjects
    remade = _Remade()
    logger = logging.getLogger("hemitwin")
    logger.setLevel(logging.INFO)
    logger.addHandler(remade)
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        bids, derivatives = root / "bids", root / "derivatives"
        stages = _walk(root, bids, derivatives)
        for number in range(1, subjects):
            _copy_person(bids, derivatives, f"sub-c{number:04d}")
        volumes = [path for path in derivatives.rglob("*") if path.is_file()]
        print(f"{subjects} subjects, {len(volumes)} files")
        for title in ("after a copy", "again"):
            total = 0.0
            for stage, run in stages.items():
                remade.count, started = 0, time.perf_counter()
                outcome = run()
                seconds = time.perf_counter() - started
                total += seconds
                print(
                    f"{title:14} {stage:12} {seconds:7.2f} s  {len(outcome.results)} done, "
                    f"{len(outcome.failures)} failed, {remade.count} made again"
                )
            print(f"{title:14} {'in all':12} {total:7.2f} s")
        started = time.perf_counter()
        for path in volumes:
            hashlib.sha256(path.read_bytes()).hexdigest()
        print(f"{'peer':14} {'read all':12} {time.perf_counter() - started:7.2f} s")


def _walk(root: Path, bids: Path, derivatives: Path) -> dict[str, Stage]:
    write_cohort(bids, CohortConfig(controls=8, patients=0, resolution_mm=4.0))
    config = PrepareConfig(resolution_mm=4.0)
    prepare(bids, derivatives, config=config)
    run = train(
        RunConfig(
            data=DataConfig(prepared=derivatives, resolution_mm=8.0),
            split=SplitConfig(validation=2, test=2),
            encoder=EncoderConfig(name="resnet18", width=8, blocks=(1, 1), stem_stride=1),
            training=TrainingConfig(epochs=1, batch_subjects=2),
        ),
        root / "run",
    )
    for folder in (bids, derivatives):
        for path in folder.glob("sub-0[2-9]"):
            shutil.rmtree(path)
    cache = root / "cache"
    stages: dict[str, Stage] = {
        "prepare": lambda: prepare(bids, derivatives, config=config),
        "atlas": lambda: build_atlases(derivatives),
        "explain": lambda: explain(run, derivatives),
        "parcellate": lambda: parcellate(derivatives, cache=cache),
        "export": lambda: export(derivatives, cache=cache),
    }
    for stage in stages.values():
        if stage().failures:
            message = "a stage failed on the one person"
            raise RuntimeError(message)
    return stages


def _copy_person(bids: Path, derivatives: Path, name: str) -> None:
    for folder in (bids, derivatives):
        _copy(folder / "sub-01", folder / name)
    workbench = derivatives / "workbench"
    for path in workbench.glob("sub-01*"):
        _copy_file(path, name)
    sidecars = [*(derivatives / name).rglob("*.json"), workbench / f"{name}.json"]
    for _ in range(2):  # a record may hold the digest of a sidecar with one of its own
        for sidecar in sidecars:
            _put_right(sidecar)


def _copy(source: Path, target: Path) -> None:
    shutil.copytree(source, target)
    for path in target.rglob("sub-01*"):
        _rename(path, target.name)


def _copy_file(path: Path, name: str) -> None:
    target = path.with_name(path.name.replace("sub-01", name))
    if path.suffix in {".json", ".spec", ".scene"}:
        target.write_text(path.read_text().replace("sub-01", name))
    else:
        shutil.copyfile(path, target)


def _rename(path: Path, name: str) -> None:
    if path.suffix == ".json":
        path.write_text(path.read_text().replace("sub-01", name))
    path.rename(path.with_name(path.name.replace("sub-01", name)))


def _put_right(sidecar: Path) -> None:
    """Write down the digests of files in which a name was put for another."""
    content = json.loads(sidecar.read_text())
    for name, state in content.get("MadeFrom", {}).get("files", {}).items():
        path = sidecar.parent / name
        if path.suffix in {".json", ".spec", ".scene"}:
            state["sha256"] = hashlib.sha256(path.read_bytes()).hexdigest()
            state["size"] = path.stat().st_size
    sidecar.write_text(json.dumps(content))


if __name__ == "__main__":
    main()
