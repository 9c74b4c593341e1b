"""One small cohort that walks the whole way; the stages' tests look at what it left behind."""

from dataclasses import dataclass
from pathlib import Path

import pytest

from hemitwin.models import EncoderConfig
from hemitwin.pipeline.config import RunConfig
from hemitwin.pipeline.data_config import DataConfig, SplitConfig
from hemitwin.pipeline.prepare import PrepareConfig, prepare
from hemitwin.pipeline.runs import Run
from hemitwin.pipeline.synthetic_cohort import CohortConfig, write_cohort
from hemitwin.pipeline.train import train
from hemitwin.pipeline.training_config import EvaluationConfig, TrainingConfig
from hemitwin.transforms import LesionConfig


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
