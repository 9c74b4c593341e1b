import json
import shutil

import numpy as np
import pandas as pd
import pytest

from hemitwin.pipeline.evaluation.halves_evaluation import evaluate_halves
from hemitwin.pipeline.stage.json_files import digest_file, read_json, write_json
from hemitwin.pipeline.statistics.detection_threshold import detection_threshold
from hemitwin.pipeline.training.runs import load_run
from hemitwin.pipeline.training.sources.halves import VALIDATION_PAIRS

pytestmark = pytest.mark.xdist_group("path")


@pytest.fixture
def copied(run, tmp_path):
    """The run in a folder that a test may write into."""
    shutil.copytree(run.folder, tmp_path / "run")
    (tmp_path / "run" / VALIDATION_PAIRS).unlink(missing_ok=True)
    return load_run(tmp_path / "run")


def test_an_evaluation_holds_every_figure_and_a_picture(copied):
    result = evaluate_halves(copied)
    written = json.loads((copied.folder / "evaluation.json").read_text())
    plain = {
        "mirror_mean",
        "mirror_peak",
        "mirror_deviation",
        "normative_asymmetry",
        "half_volume",
        "half_tissue_volumes",
    }
    assert set(written["figures"]) == {"distance", *plain}
    assert set(written["figures"]["mirror_mean"]) == set(written["figures"]["distance"])
    own = written["figures"]["distance"]
    assert own["auc"] == written["auc"]["distance"]
    assert own["balanced_accuracy"]["value"] == pytest.approx(written["balanced_accuracy"])
    assert own["tar_at_far_1e-2"]["value"] is None
    assert written["thresholds"]["distance"] == copied.threshold
    assert sum(row["lesions"] for row in written["by_size"]) == written["lesioned_pairs"] == 4
    assert [row["role"] for row in written["roles"]] == ["healthy", "lesion"]
    assert written["detection"] is None  # two healthy validation pairs are too few
    assert set(written["places"]) == {"known_place", "peak_inside", "right_side"}
    assert all(row["places"] for row in written["by_size"])
    assert "AUC at the known place, arithmetic" in result.to_rows()
    assert (copied.folder / "evaluation.png").read_bytes()[1:4] == b"PNG"
    assert "partial AUC, TPR >= 0.8" in result.to_rows()


def test_thresholds_come_from_the_runs_own_validation_pairs(copied):
    pairs = pd.DataFrame(
        {
            "subject": [*copied.split.subjects("validation")] * 2,
            "lesioned": [False, False, False, True],
            "distance": [0.1, 0.2, 0.3, 0.4],
            "mirror_mean": [1.0, 2.0, 3.0, 10.0],
            "volume_mm3": [0.0, 0.0, 0.0, 1000.0],
        }
    )
    pairs.to_csv(copied.folder / VALIDATION_PAIRS, sep="\t", index=False)
    summary = read_json(copied.folder / "run.json")
    digest = digest_file(copied.folder / VALIDATION_PAIRS)
    write_json(copied.folder / "run.json", {**summary, "validation_pairs_sha256": digest})
    thresholds = evaluate_halves(copied).thresholds
    assert thresholds["mirror_mean"] == detection_threshold(np.array([1.0, 2.0, 3.0])).value
    assert thresholds["distance"] == copied.threshold
    assert "mirror_peak" not in thresholds
