"""Evaluate: score the test fold once, with intervals, beside baselines without a network."""

from collections.abc import Mapping
from pathlib import Path

from hemitwin.pipeline.evaluation.brain_evaluation import BrainEvaluation, evaluate_brains
from hemitwin.pipeline.evaluation.halves_evaluation import evaluate_halves
from hemitwin.pipeline.evaluation.images.evaluation import ImagesEvaluation, evaluate_images
from hemitwin.pipeline.evaluation.results import Evaluation
from hemitwin.pipeline.evaluation.slice_evaluation import SlicesEvaluation, evaluate_slices
from hemitwin.pipeline.stage.errors import UserError
from hemitwin.pipeline.training.compared import HALVES
from hemitwin.pipeline.training.runs import Run

__all__ = ["evaluate"]

_FOR = {
    "--prepared": "prepared volumes",
    "--simulated": "hemispheres",
    "--images": "images or slices",
}


def evaluate(
    run: Run,
    *,
    prepared: Path | None = None,
    simulated: Path | None = None,
    images: Path | None = None,
) -> Evaluation | BrainEvaluation | ImagesEvaluation | SlicesEvaluation:
    """Score the test fold of a run, whatever it learnt from.

    Parameters
    ----------
    run : Run
        A trained network.
    prepared : Path, optional
        Where the prepared volumes lie now; by default where training found them.
    simulated : Path, optional
        A set that `simulate_lesions` wrote, for a run on hemispheres.
    images : Path, optional
        Images that a run on labelled images has never seen; or for a run on halves of slices,
        other slices, or where its own lie now.

    Returns
    -------
    Evaluation, BrainEvaluation, ImagesEvaluation or SlicesEvaluation
        Of `evaluate_halves`, `evaluate_brains`, `evaluate_images` or `evaluate_slices`, which say
        what is written into the run folder.

    Raises
    ------
    UserError
        Something is given that a run of its kind has no use for; or as the four say.
    """
    config = run.config
    given = {"--prepared": prepared, "--simulated": simulated, "--images": images}
    if config.images is not None or config.slice_pairs is not None:
        _refuse(run, "images", {**given, "--images": None})
        if config.images is not None:
            return evaluate_images(run, images=images)
        return evaluate_slices(run, slices=images)
    if config.compared is HALVES:
        _refuse(run, "hemispheres", {"--images": images})
        return evaluate_halves(run, prepared=prepared, simulated=simulated)
    _refuse(run, "brains", {"--simulated": simulated, "--images": images})
    return evaluate_brains(run, prepared=prepared)


def _refuse(run: Run, kind: str, options: Mapping[str, Path | None]) -> None:
    for name, value in options.items():
        if value is not None:
            msg = (
                f"{name} must stand with a run on {_FOR[name]}, but {run.folder} is one on "
                f"{kind}; leave it out"
            )
            raise UserError(msg)
