"""Evaluate: score the test fold once, with intervals, beside baselines without a network."""

from pathlib import Path

from hemitwin.pipeline.evaluation.brain_evaluation import BrainEvaluation, evaluate_brains
from hemitwin.pipeline.evaluation.halves_evaluation import evaluate_halves
from hemitwin.pipeline.evaluation.results import Evaluation
from hemitwin.pipeline.stage.errors import UserError
from hemitwin.pipeline.training.compared import HALVES
from hemitwin.pipeline.training.runs import Run

__all__ = ["evaluate"]


def evaluate(
    run: Run, *, prepared: Path | None = None, simulated: Path | None = None
) -> Evaluation | BrainEvaluation:
    """Score the test fold of a run, whatever it compares.

    Parameters
    ----------
    run : Run
        A trained network.
    prepared : Path, optional
        Where the prepared volumes lie now; by default where training found them.
    simulated : Path, optional
        A set that `simulate_lesions` wrote, for a run on hemispheres.

    Returns
    -------
    Evaluation or BrainEvaluation
        Of `evaluate_halves` or `evaluate_brains`, which say what is written into the run folder.

    Raises
    ------
    UserError
        A set is given for a run on brains; or as the two say.
    """
    if run.config.compared is HALVES:
        return evaluate_halves(run, prepared=prepared, simulated=simulated)
    if simulated is not None:
        msg = (
            f"--simulated must stand with a run on hemispheres, but {run.folder} compares brains, "
            f"of which a set of lesions has no pairs; leave it out"
        )
        raise UserError(msg)
    return evaluate_brains(run, prepared=prepared)
