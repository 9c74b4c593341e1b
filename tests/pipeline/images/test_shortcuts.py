"""A class that size, kind or origin give away is told; one that they do not is not."""

import numpy as np
import pandas as pd
import pytest

from hemitwin.pipeline.images.image_set import ImageSet
from hemitwin.pipeline.images.shortcuts import find_shortcuts


def images(count=60, classes=("covid", "normal", "pneumonia"), **columns):
    rng = np.random.default_rng(0)
    table = pd.DataFrame(
        {
            "name": [f"{place}.png" for place in range(count)],
            "label": [classes[place % len(classes)] for place in range(count)],
            "group": [f"g{place}" for place in range(count)],
            "width": rng.integers(200, 260, count),
            "height": rng.integers(200, 260, count),
            "mode": rng.choice(["L", "RGB"], count),
            "format": "PNG",
            "origin": rng.choice(["a_#", "b_#"], count),
        }
    )
    table = table.assign(**{key: value(table) for key, value in columns.items()})
    return ImageSet(table, np.zeros((count, 1, 1, 1), np.uint8), classes)


@pytest.mark.parametrize("seed", range(20))
def test_nothing_is_told_where_nothing_is_to_be_told(seed, caplog):
    rng = np.random.default_rng(seed)
    shuffled = images(90, label=lambda table: rng.permutation(table["label"]))
    assert find_shortcuts(shuffled) == ()
    assert not caplog.records


@pytest.mark.parametrize(
    ("attribute", "column", "values"),
    [
        ("size", "width", {"covid": 800, "normal": 1024, "pneumonia": 1024}),
        ("mode", "mode", {"covid": "RGB", "normal": "L", "pneumonia": "L"}),
        ("format", "format", {"covid": "JPEG", "normal": "PNG", "pneumonia": "PNG"}),
        ("origin", "origin", {"covid": "cohen", "normal": "rsna", "pneumonia": "rsna"}),
    ],
)
def test_an_attribute_that_gives_a_class_away_is_told(attribute, column, values, caplog):
    (found,) = find_shortcuts(images(60, **{column: lambda table: table["label"].map(values)}))
    assert found.attribute == attribute
    assert found.balanced_accuracy == pytest.approx(2 / 3, abs=0.12)
    assert found.chance == pytest.approx(1 / 3)
    assert found.chance < found.bound < found.balanced_accuracy
    assert "the class can be told from" in found.finding
    assert str(values["normal"]) in found.finding
    assert found.finding in caplog.text


def test_sizes_that_vary_are_told_by_their_range():
    rng = np.random.default_rng(1)
    wide = {"covid": 300, "normal": 500, "pneumonia": 700}
    (found,) = find_shortcuts(
        images(width=lambda table: table["label"].map(wide) + rng.integers(0, 150, len(table)))
    )
    assert found.attribute == "size"
    assert found.balanced_accuracy > 0.9


def test_the_strongest_comes_first():
    some = {"covid": "RGB", "normal": "L", "pneumonia": "L"}
    found = find_shortcuts(
        images(
            mode=lambda table: table["label"].map(some),
            origin=lambda table: "family " + table["label"],
        )
    )
    assert [one.attribute for one in found] == ["origin", "mode"]
    assert found[0].balanced_accuracy == 1.0


def test_images_of_one_group_prove_nothing():
    """A size of its own in each of few groups says who it is, not which class it is of."""
    sizes = np.random.default_rng(0).permutation(np.arange(200, 212))
    clustered = images(
        120,
        ("a", "b"),
        label=lambda table: np.where(table.index // 10 < 6, "a", "b"),
        group=lambda table: [f"g{place // 10}" for place in table.index],
        width=lambda table: sizes[table.index // 10],
        height=lambda table: sizes[table.index // 10],
        mode=lambda _: "L",
        origin=lambda _: "x",
    )
    assert find_shortcuts(clustered) == ()


def test_too_few_groups_are_not_asked_about():
    assert find_shortcuts(images(group=lambda table: table["label"])) == ()
