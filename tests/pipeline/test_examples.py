"""The examples are configurations that this version takes."""

from pathlib import Path

import pytest

from hemitwin.pipeline.simulation.lesion_set import EvaluationSetConfig
from hemitwin.pipeline.stage.settings import read_config
from hemitwin.pipeline.training.config import load_config

EXAMPLES = Path(__file__).parents[2] / "examples"
SETS = sorted(EXAMPLES.rglob("*_set.yaml"))
RUNS = sorted(set(EXAMPLES.rglob("*.yaml")) - set(SETS))


@pytest.mark.parametrize("path", RUNS, ids=lambda path: path.stem)
def test_an_example_is_a_configuration(path):
    config = load_config(path)
    if config.images is not None or config.slice_pairs is not None:
        assert config.encoder.spatial_dims == 2
        assert "docs/images.md" in path.read_text(encoding="utf-8")
        return
    assert str(config.volumes.prepared).startswith("derivatives")
    assert (config.pairs is not None) == ("twins" in path.stem)


@pytest.mark.parametrize("path", SETS, ids=lambda path: path.stem)
def test_an_example_is_an_evaluation_set(path):
    assert read_config(EvaluationSetConfig, path).shams_per_subject > 0


def test_every_example_is_tried():
    assert (len(RUNS), len(SETS)) == (12, 2)
