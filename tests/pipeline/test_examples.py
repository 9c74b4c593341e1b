"""The examples are configurations that this version takes."""

from pathlib import Path

import pytest

from hemitwin.pipeline.config import load_config

EXAMPLES = Path(__file__).parents[2] / "examples"
RUNS = sorted(path for path in EXAMPLES.rglob("*.yaml") if path.name != "lesion_set.yaml")


@pytest.mark.parametrize("path", RUNS, ids=lambda path: path.stem)
def test_an_example_is_a_configuration(path):
    config = load_config(path)
    assert str(config.data.prepared).startswith("derivatives")
    assert (config.pairs is not None) == ("twins" in path.stem)


def test_every_example_is_tried():
    assert len(RUNS) == 8
