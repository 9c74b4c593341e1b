"""One small cohort that walks the whole way; the stages' tests look at what it left behind."""

import json
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pytest

from hemitwin.atlases import TEMPLATE_SPACE, hcpmmp_volume, save_table, save_volume, template_grid
from hemitwin.models import EncoderConfig
from hemitwin.pipeline.cohort.brains import find_prepared
from hemitwin.pipeline.cohort.config import DataConfig, SplitConfig
from hemitwin.pipeline.exports.shared_atlas import write_shared_atlas
from hemitwin.pipeline.preparation.prepare import PrepareConfig, prepare
from hemitwin.pipeline.simulation.people import CohortConfig, write_cohort
from hemitwin.pipeline.stage.bids import sidecar_of
from hemitwin.pipeline.stage.json_files import digest_file, write_json
from hemitwin.pipeline.stage.names import pair_table_path, region_table_path, relevance_path
from hemitwin.pipeline.stage.records import Record
from hemitwin.pipeline.training.config import EvaluationConfig, RunConfig, TrainingConfig
from hemitwin.pipeline.training.runs import Run
from hemitwin.pipeline.training.train import train
from hemitwin.transforms import LesionConfig

# It registers a device for as long as its process lives.
collect_ignore = ["elsewhere.py"]


@dataclass(frozen=True)
class Walked:
    """Where the small cohort lies."""

    bids: Path
    derivatives: Path
    config: RunConfig


@pytest.fixture(scope="session")
def cache(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="session")
def prepared(tmp_path_factory) -> Walked:
    """Ten people and a patient at 8 mm, prepared at 4 mm."""
    root = tmp_path_factory.mktemp("walk")
    lesions = LesionConfig(volume_mm3=(10000.0, 30000.0))
    cohort = CohortConfig(controls=8, patients=1, resolution_mm=4.0, lesions=lesions)
    write_cohort(root / "bids", cohort)
    derivatives = root / "derivatives"
    outcome = prepare(root / "bids", derivatives, config=PrepareConfig(resolution_mm=4.0))
    assert not outcome.failures
    config = RunConfig(
        data=DataConfig(prepared=derivatives, resolution_mm=8.0, exclude=("p01",)),
        split=SplitConfig(validation=2, test=2),
        encoder=EncoderConfig(name="resnet18", width=8, blocks=(1, 1), stem_stride=1),
        lesions=lesions,
        training=TrainingConfig(epochs=2, batch_subjects=2, lesions_per_side=1),
        evaluation=EvaluationConfig(lesions_per_subject=2, bootstrap=100),
    )
    return Walked(root / "bids", derivatives, config)


@pytest.fixture(scope="session")
def run(prepared, tmp_path_factory) -> Run:
    """A run of two epochs: it has learnt little, and has everything a run has."""
    return train(prepared.config, tmp_path_factory.mktemp("runs") / "run")


@pytest.fixture(scope="session")
def plant(cache):
    """Give a maker of relevance maps: 1 in the left V1 away from the mid-plane, or any values."""

    def make(derivatives: Path, values=None):
        (case,) = find_prepared(derivatives)
        shape, affine = template_grid(2.0)
        if values is None:
            parcels = hcpmmp_volume(shape, affine, cache_dir=cache)
            values = (parcels.labels == parcels.region("L_V1").index).astype("float32")
            values[shape[0] // 2 - 3 :] = 0  # trilinear reading must not cross
        path = relevance_path(case, derivatives, "lrp")
        save_volume(path, values, affine, space=TEMPLATE_SPACE)
        write_json(sidecar_of(path), {"Digest": digest_file(path)})
        return case

    return make


@pytest.fixture(scope="session")
def record_tables():
    """Give a writer of what `parcellate` says of the tables that lie beside a subject's map."""

    def write(derivatives: Path, subject: str, *, atlas="HCPMMP1", regions="the template's"):
        (case,) = find_prepared(derivatives, labels=(subject,))
        table = region_table_path(case, derivatives, "lrp", atlas)
        pairs = pair_table_path(case, derivatives, "lrp", atlas)
        if not table.is_file():
            save_table(table, pd.DataFrame({"index": [0]}))
        inputs = {"map": relevance_path(case, derivatives, "lrp")}
        record = Record("parcellate", computation=0, inputs=inputs, settings={})
        files = [path for path in (table, pairs) if path.is_file()]
        record.write(table.with_suffix(".json"), {"Regions": regions}, files)

    return write


@pytest.fixture(scope="session")
def person(tmp_path_factory, cache) -> Path:
    """One person's scan, derivatives prepared at 4 mm, and the shared atlas; to be copied."""
    folder = tmp_path_factory.mktemp("person")
    write_cohort(folder / "bids", CohortConfig(controls=1, patients=0, resolution_mm=4.0))
    config = PrepareConfig(resolution_mm=4.0)
    assert not prepare(folder / "bids", folder / "derivatives", config=config).failures
    write_shared_atlas(folder / "derivatives", cache=cache)
    return folder


@pytest.fixture
def one_prepared(person, tmp_path) -> Path:
    """The derivatives of one person, prepared at 4 mm, for one test alone."""
    return shutil.copytree(person, tmp_path, dirs_exist_ok=True) / "derivatives"


@pytest.fixture
def elsewhere(tmp_path, cache):
    """Give what walks stages of a run on a device that records, in a process of its own."""

    def walk(run, derivatives, *stages, twins=()):
        folder = tmp_path / "elsewhere"
        shutil.copytree(run.folder, folder / "run", ignore=shutil.ignore_patterns("checkpoints"))
        shutil.copytree(derivatives, folder / "derivatives")
        (folder / "cache").symlink_to(cache)  # the atlas is built once for all
        if twins:
            (folder / "twins.txt").write_text(" ".join(twins))
        script = Path(__file__).with_name("elsewhere.py")
        done = subprocess.run(  # noqa: S603 (our own script)
            [sys.executable, script, folder, *stages], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout.splitlines()[-1])

    return walk
