import json

import numpy as np
import pandas as pd
import pytest

from hemitwin.pipeline.cli.main import main
from hemitwin.pipeline.cohort.config import DataConfig, SplitConfig
from hemitwin.pipeline.cohort.split import make_split, write_split
from hemitwin.pipeline.evaluation.compare import compare
from hemitwin.pipeline.stage.errors import UserError
from hemitwin.pipeline.stage.json_files import write_json
from hemitwin.pipeline.statistics.bootstrap import Clusters
from hemitwin.pipeline.statistics.metrics import figures_with_intervals
from hemitwin.pipeline.training.config import RunConfig
from hemitwin.pipeline.training.runs import write_config

PEOPLE = [f"sub-{k:02d}" for k in range(30)]


@pytest.fixture
def make_run(tmp_path):
    """Write the files of an evaluated run without a network."""

    def make(name, *, gap, epochs=1, fold=0, seed=0, lesions=3):
        folder = tmp_path / name
        split_config = SplitConfig(validation=4, folds=3, fold=fold)
        data = DataConfig(prepared=tmp_path / "prepared")
        config = RunConfig(data=data, split=split_config)
        training = config.training.model_copy(update={"epochs": epochs})
        write_config(folder, config.model_copy(update={"training": training, "seed": seed}))
        split = make_split({name: name for name in PEOPLE}, split_config, seed=seed)
        write_split(folder / "splits.json", split)
        # The lesions are one and the same for all runs of a fold; the scores are the run's own.
        drawn = np.random.default_rng(fold)
        noise = np.random.default_rng(epochs + 10 * fold)
        rows = [
            {
                "subject": subject,
                "lesioned": number > 0,
                "role": "lesion" if number else "healthy",
                "side": "L",
                "volume_mm3": drawn.uniform(100, 9999) if number else 0.0,
                "contrast": -0.3 if number else 0.0,
                "distance": noise.normal() + gap * (number > 0) + 100 * fold,
            }
            for subject in split.subjects("test")
            for number in range(lesions + 1)
        ]
        pd.DataFrame(rows).to_csv(folder / "evaluation_pairs.tsv", sep="\t", index=False)
        weights = f"weights of {name}"
        threshold = gap / 2 + 100 * fold
        write_json(folder / "run.json", {"weights_sha256": weights, "threshold": threshold})
        known = {"weights_sha256": weights, "splits_hash": split.hash}
        write_json(folder / "evaluation.json", known)
        return folder

    return make


def test_a_better_run_is_found_better_and_everything_is_written(make_run, tmp_path):
    runs = [make_run("plain", gap=0.5), make_run("good", gap=3.0, epochs=2)]
    result = compare(runs, tmp_path / "out", draws=300)
    plain, good = result.rows
    assert plain.differences == {}
    assert good.settings == {"training.epochs": 2}
    difference = good.differences["auc"]
    expected = good.figures["auc"].value - plain.figures["auc"].value
    assert difference.estimate.value == pytest.approx(expected)
    assert difference.estimate.low > 0
    assert difference.p < 0.05
    assert good.calls is not None
    assert good.calls.only_second_right > good.calls.only_first_right
    written = json.loads((tmp_path / "out" / "compare.json").read_text())
    assert written["rows"][1]["differences"]["auc"]["p_holm"] == difference.p
    assert "averaged over folds" in written["method"]
    table = pd.read_csv(tmp_path / "out" / "compare.tsv", sep="\t")
    assert table["auc"].tolist() == [row.figures["auc"].value for row in result.rows]
    assert (tmp_path / "out" / "compare.png").read_bytes()[1:4] == b"PNG"


def test_figures_are_those_of_the_evaluation(make_run, tmp_path):
    folder = make_run("one", gap=1.0)
    rows = compare([folder, make_run("two", gap=1.0, epochs=2)], tmp_path / "o", draws=200).rows
    table = pd.read_csv(folder / "evaluation_pairs.tsv", sep="\t")
    figures = figures_with_intervals(
        table["lesioned"].to_numpy(bool),
        table["distance"].to_numpy(float),
        Clusters.of(list(table["subject"])),
        threshold=0.5,
        draws=200,
        seed=0,
    )
    assert {name: str(one) for name, one in rows[0].figures.items()} == {
        name: str(one) for name, one in figures.items()
    }


def test_the_same_scores_do_not_differ(make_run, tmp_path):
    runs = [make_run("one", gap=1.0), make_run("two", gap=1.0, epochs=2)]
    pairs = (runs[0] / "evaluation_pairs.tsv").read_bytes()
    (runs[1] / "evaluation_pairs.tsv").write_bytes(pairs)
    row = compare(runs, tmp_path / "out", draws=100).rows[1]
    assert row.differences["auc"].p == row.differences["f1"].p == 1.0
    assert row.holm == {"auc": 1.0, "f1": 1.0, "mcnemar": 1.0}


def test_folds_are_averaged_whatever_their_scale(make_run, tmp_path):
    runs = [make_run(f"fold{k}", gap=1.5, fold=k) for k in range(3)]
    others = [make_run(f"other{k}", gap=1.5, fold=k, epochs=2) for k in (2, 0, 1)]
    result = compare([*runs, *others], tmp_path / "out", draws=100)
    singles = [
        compare([run, other], tmp_path / "x", draws=100).rows[0].figures["auc"].value
        for run, other in zip(runs, (others[1], others[2], others[0]), strict=True)
    ]
    first, second = result.rows
    assert (first.folds, first.subjects, first.pairs) == (3, 30, 120)
    assert first.figures["auc"].value == pytest.approx(np.mean(singles))
    assert first.figures["auc"].value > 0.7
    assert second.name.endswith("(3 folds)")


def test_what_cannot_be_compared_is_refused_by_name(make_run, tmp_path):
    one = make_run("one", gap=1.0)
    with pytest.raises(UserError, match="two run folders"):
        compare([one], tmp_path)
    with pytest.raises(UserError, match=r"one and .*seeded have other folds"):
        compare([one, make_run("seeded", gap=1.0, seed=1)], tmp_path)
    with pytest.raises(UserError, match=r"one and .*more have other pairs"):
        compare([one, make_run("more", gap=1.0, epochs=2, lesions=4)], tmp_path)
    with pytest.raises(UserError, match="given once"):
        compare([one, one], tmp_path)
    folds = [make_run("two", gap=1.0, epochs=2), make_run("three", gap=1.0, epochs=2, fold=1)]
    with pytest.raises(UserError, match=r"1 fold\(s\), .* has 2"):
        compare([one, *folds], tmp_path)
    write_json(one / "run.json", {"weights_sha256": "others", "threshold": 0.5})
    with pytest.raises(UserError, match="replaced since"):
        compare([one, folds[0]], tmp_path)
    with pytest.raises(UserError, match="no evaluation-simulated"):
        compare(folds, tmp_path, simulated=True)


def test_the_verb_prints_every_run(make_run, tmp_path, capfd):
    runs = [str(make_run("a", gap=1.0)), str(make_run("b", gap=1.2, epochs=2))]
    with pytest.raises(SystemExit, match="0"):
        main(["compare", *runs, "-o", str(tmp_path / "out"), "--draws", "100"])
    printed = capfd.readouterr().out
    assert "AUC, difference" in printed
    assert "n/a (it needs 100 negatives, there are 10)" in printed
