"""Why some images, and some pairs of them, are taken for what they are: maps and shares."""

import numpy as np
import pandas as pd

from hemitwin.pipeline.evaluation.images.classes import ClassedImages, LearntClasses
from hemitwin.pipeline.evaluation.images.maps import (
    class_axes,
    explain_image_pairs,
    explain_images,
)
from hemitwin.pipeline.evaluation.images.pairs import choose_pairs, spread
from hemitwin.pipeline.evaluation.images.pictures import ExplainedImage, picture_of_maps
from hemitwin.pipeline.evaluation.images.regions import regions_of
from hemitwin.pipeline.images.image_set import ImageSet
from hemitwin.pipeline.training.runs import Run

__all__ = ["explain_some", "explain_some_pairs"]


def explain_some(
    run: Run, stem: str, seen: ImageSet, classed: ClassedImages, learnt: LearntClasses
) -> pd.DataFrame:
    """Explain some images, those that were taken for a wrong class among them; draw the maps.

    Returns
    -------
    DataFrame
        `ClassedImages.table`, with relevance_inside, grad_cam_inside and relevance_ledger of
        those that are explained.
    """
    table = classed.table(seen)
    chosen = _to_explain(table, run.config.evaluation.explained)
    regions = regions_of(run, seen, chosen)
    maps = explain_images(
        run.network,
        seen.pixels[chosen],
        class_axes(run.network, learnt.templates),
        classed.ranking()[chosen],
        lrp=run.config.lrp,
        regions=regions,
    )
    for column in ("relevance_inside", "grad_cam_inside", "relevance_ledger"):
        table[column] = np.nan
    shown = []
    for row, one, region in zip(chosen, maps, regions, strict=True):
        table.loc[row, "relevance_inside"] = one.inside["relevance"]
        table.loc[row, "grad_cam_inside"] = one.inside["grad_cam"]
        table.loc[row, "relevance_ledger"] = one.ledger_ratio
        label, taken = (str(table.loc[row, name]) for name in ("label", "class"))
        title = taken if label in {"", taken} else f"{label}, taken for {taken}"
        shown.append(ExplainedImage(title, seen.pixels[row], one.relevance, one.grad_cam, region))
    picture_of_maps(run.folder / f"{stem}_maps.png", shown)
    return table


def explain_some_pairs(
    run: Run, stem: str, labelled: ImageSet, embeddings: np.ndarray
) -> pd.DataFrame:
    """Explain pairs that were taken for alike or different, rightly and wrongly; draw the maps."""
    pairs = choose_pairs(
        run.network,
        embeddings,
        labelled,
        threshold=run.threshold,
        each=max(1, run.config.evaluation.explained // 4),
    )
    places = pairs[["first", "second"]].to_numpy()
    regions = regions_of(run, labelled, places.ravel().tolist())
    regions = regions.reshape(*places.shape, *regions.shape[1:])
    found = explain_image_pairs(
        run.network, labelled.pixels[places], lrp=run.config.lrp, regions=regions
    )
    pairs["relevance_ledger"] = [one.ledger_ratio for one, _ in found]
    for number in (0, 1):
        for name in ("relevance", "grad_cam"):
            pairs[f"{name}_inside_{number + 1}"] = [maps[number].inside[name] for maps in found]
    shown = []
    for row, (pair, maps) in enumerate(zip(pairs.to_dict("records"), found, strict=True)):
        taken = "different" if bool(pair["taken_for_different"]) else "alike"
        is_right = bool(pair["taken_for_different"] == pair["different"])
        words = f"{'rightly' if is_right else 'wrongly'} taken for {taken}"
        titles = (f"{pair['label_1']}, and ...", f"... {pair['label_2']}: {words}")
        for number, title in enumerate(titles):
            one, image = maps[number], labelled.pixels[places[row, number]]
            region = regions[row, number]
            shown.append(ExplainedImage(title, image, one.relevance, one.grad_cam, region))
    picture_of_maps(run.folder / f"{stem}_pair_maps.png", shown)
    return pairs.drop(columns=["first", "second"])


def _to_explain(table: pd.DataFrame, count: int) -> list[int]:
    """Take right and wrong images in turn, spread over the table."""
    wrong = np.flatnonzero(
        ((table["label"] != "") & (table["label"] != table["class"])).to_numpy()
    )
    right = np.setdiff1d(np.arange(len(table)), wrong)
    few = min(count // 2, len(wrong))
    chosen = right[spread(len(right), count - few)], wrong[spread(len(wrong), few)]
    return [int(row) for row in np.concatenate(chosen)]
