import json

import pytest

from hemitwin.pipeline.cli.demo import run_demo


@pytest.mark.slow
def test_the_demo_learns_explains_and_writes_what_it_names(tmp_path, cache):
    summary = run_demo(tmp_path, cache=cache)
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert metrics == summary.metrics
    assert metrics["auc"] >= 0.9
    assert metrics["auc_low"] > 0.5
    assert metrics["ledger_ratio"] == pytest.approx(1.0, abs=1e-4)
    assert metrics["relevance_mass_accuracy"] > metrics["lesion_share_of_brain"]
    for path in (*metrics["files"].values(), *metrics["exported"]):
        assert (tmp_path / path).exists(), path
