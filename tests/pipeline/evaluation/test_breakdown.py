import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from sklearn.metrics import roc_auc_score

from hemitwin.pipeline.evaluation.breakdown import (
    CONTRAST_BINS,
    CONTRAST_SD_BINS,
    SIZE_BINS_MM3,
    auc_by_bin,
    by_role,
    contrast_bins,
    detection_by_size,
)
from hemitwin.pipeline.evaluation.picture import draw_psychometric
from hemitwin.pipeline.evaluation.score_table import ScoreTable
from hemitwin.pipeline.stage.errors import UserError


def _table(people=20, lesions=6, seed=0):
    """Healthy pairs, lesions whose score grows with their size, and shams like healthy ones."""
    rng = np.random.default_rng(seed)
    rows = []
    for person in range(people):
        for role in ("healthy", *["lesion"] * lesions, "sham"):
            lesioned = role == "lesion"
            volume = float(10 ** rng.uniform(1.9, 4.7)) if role != "healthy" else 0.0
            gain = max(0.0, np.log10(volume) - 3) if lesioned else 0.0
            rows.append(
                {
                    "subject": f"sub-{person:02d}",
                    "lesioned": lesioned,
                    "role": role,
                    "side": "L",
                    "volume_mm3": volume,
                    "contrast": float(rng.uniform(-0.6, -0.15)) if role != "healthy" else 0.0,
                    "distance": 0.2 * rng.normal() + gain,
                    "mirror_mean": rng.normal(),
                }
            )
    return ScoreTable(pd.DataFrame(rows))


def test_the_table_knows_its_scores():
    table = _table()
    assert table.score_names == ("distance", "mirror_mean")
    assert table.network_score == "distance"
    logits = ScoreTable(table.rows.rename(columns={"distance": "score"}))
    assert logits.network_score == "score"
    assert list(table.keys) == [
        "subject", "lesioned", "role", "side", "volume_mm3", "contrast"
    ]  # fmt: skip


def test_pairs_of_two_brains_have_two_families():
    rows = pd.DataFrame(
        {"subject": ["a", "a"], "partner": ["b", "c"], "label": [False, True], "score": [0.1, 0.2]}
    )
    table = ScoreTable(rows, {"a": "f", "b": "f"})
    assert table.clusters.first.tolist() == [1, 1]
    assert table.clusters.second.tolist() == [1, 0]
    assert table.labels.tolist() == [False, True]
    assert by_role(table, 0.15)[0].called.value == 0.5


@pytest.mark.parametrize(
    ("column", "written"),
    [
        ("label", ["same", "different", "different"]),
        ("lesioned", ["False", "True", "true"]),
        ("lesioned", [0.0, 1.0, 1.0]),
        ("label", [0, 1, 1]),
        ("lesioned", [False, True, True]),
    ],
)
def test_a_label_is_what_its_word_says(column, written):
    rows = pd.DataFrame({"subject": ["a", "b", "c"], column: written, "score": 0.0})
    assert ScoreTable(rows).labels.tolist() == [False, True, True]


@pytest.mark.parametrize("written", ["twins", np.nan, "", 2])
def test_a_label_of_another_word_is_refused(written):
    rows = pd.DataFrame({"subject": ["a", "b"], "label": ["same", written], "score": 0.0})
    with pytest.raises(UserError, match=f"different and same, got {written}"):
        _ = ScoreTable(rows).labels


def test_families_of_a_table_with_groups_are_its_groups():
    rows = pd.DataFrame(
        {
            "case": ["a", "a_2"],
            "partner_case": ["b", "c"],
            "subject": ["a", "a"],
            "partner": ["b", "c"],
            "group": [7, 7],
            "partner_group": [7, 3],
            "label": ["same", "different"],
            "distance": [0.1, 0.2],
        }
    )
    table = ScoreTable(rows)
    assert table.clusters.second.tolist() == [1, 0]
    assert table.score_names == ("distance",)
    assert table.subjects == {"a", "b", "c"}
    assert table.keys.equals(rows.drop(columns="distance"))


def test_contrasts_in_sds_have_bins_of_their_own():
    rows = _table().rows.assign(contrast_from="surroundings")
    rows.loc[rows["role"] == "healthy", "contrast_from"] = None
    rows["contrast"] = rows["contrast"] * 2.5
    table = ScoreTable(rows)
    assert contrast_bins(table) == CONTRAST_SD_BINS
    assert contrast_bins(_table()) is CONTRAST_BINS
    assert contrast_bins(ScoreTable(rows.assign(contrast_from="spec"))) is CONTRAST_BINS
    found = auc_by_bin(table, "contrast", contrast_bins(table), draws=100)
    assert [row.name for row in found] == [
        "below 0.5 SD", "0.5-0.8 SD", "0.8-1.2 SD", "1.2 SD and more"
    ]  # fmt: skip
    assert sum(row.lesions for row in found) == int(table.labels.sum())


def test_each_bin_is_held_against_all_pairs_without_a_lesion():
    table = _table()
    rows = auc_by_bin(table, "volume_mm3", SIZE_BINS_MM3, draws=100)
    volume = table.rows["volume_mm3"].to_numpy()
    assert sum(row.lesions for row in rows) == int(table.labels.sum())
    largest = next(row for row in rows if row.name == "8-40 ml")
    chosen = ~table.labels | ((volume >= 8000) & (volume < 40000) & table.labels)
    expected = roc_auc_score(table.labels[chosen], table.scores("distance")[chosen])
    assert largest.auc["distance"].value == pytest.approx(expected)
    assert largest.auc["distance"].value > rows[0].auc["distance"].value + 0.2
    contrasts = auc_by_bin(table, "contrast", CONTRAST_BINS, draws=100)
    assert [row.name for row in contrasts] == ["0.1-0.25", "0.25-0.5", "0.5 and more"]


def test_roles_are_counted_apart():
    rows = {row.role: row for row in by_role(_table(), 0.5, draws=100)}
    assert {role: row.pairs for role, row in rows.items()} == {
        "healthy": 20, "lesion": 120, "sham": 20
    }  # fmt: skip
    assert rows["sham"].called.value < 0.15 < rows["lesion"].called.value
    assert rows["lesion"].to_dict()["called_asymmetric"]["low"] > 0.2


def test_detection_grows_with_size_and_is_drawn():
    healthy = 0.2 * np.random.default_rng(5).normal(size=40)
    found = detection_by_size(_table(people=40), healthy, draws=60)
    # Scores are log10(mm3) - 3 with a noise of 0.2: half exceed t at 10 ** (3 + t).
    assert found.overall.d50.value == pytest.approx(10 ** (3 + found.threshold.value), rel=0.25)
    assert set(found.by_contrast) == {"0.1-0.25", "0.25-0.5", "0.5 and more"}
    assert found.to_dict()["overall"]["false_positive_rate"] <= 0.1
    figure = Figure()
    panel = figure.subplots()
    draw_psychometric(panel, {"all": found.overall})
    assert panel.get_xscale() == "log"
    points = [line for line in panel.lines if line.get_marker() == "o"]
    shares = np.array([line.get_ydata() for line in points], dtype=float).ravel()
    assert shares.size == 7
    assert shares[0] < 0.2
    assert shares[-1] > 0.8


def test_too_few_lesions_give_no_curve():
    table = _table(people=1)
    with pytest.raises(ValueError, match="10 lesions"):
        detection_by_size(table, np.arange(30.0))
