"""The command line: arguments in, one stage called, a short table out."""

import logging
import os
import shlex
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich.console import Console
from rich.logging import RichHandler
from rich.table import Table

from hemitwin import __version__
from hemitwin.pipeline.errors import UserError

if TYPE_CHECKING:
    from hemitwin.pipeline.runner import Outcome

__all__ = ["main", "spread_labels"]

app = typer.Typer(
    name="hemitwin",
    help="Compare a brain with its mirror image, and name the cortical areas that differ.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
batch_app = typer.Typer(help="Slurm batches.", no_args_is_help=True)
app.add_typer(batch_app, name="batch")
simulate_app = typer.Typer(help="Synthetic data whose truth is known.", no_args_is_help=True)
app.add_typer(simulate_app, name="simulate")

_console = Console()
_errors = Console(stderr=True)

_LABEL = "--participant-label"
_SESSION = "--session-id"

Labels = Annotated[
    list[str] | None,
    typer.Option(_LABEL, help="Subjects, with or without 'sub-'; several after one another."),
]
Desc = Annotated[str, typer.Option(help="Which map: lrp, or lrplesion (injected lesion).")]
Modality = Annotated[Literal["T1w", "T2w", "FLAIR"], typer.Option(help="Image type.")]
Derivatives = Annotated[Path, typer.Argument(help="Folder that `hemitwin prepare` wrote.")]


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line; exit with 2 for a bad request and 1 for failed cases."""
    words = spread_labels(sys.argv[1:] if arguments is None else arguments)
    try:
        app(args=words, prog_name="hemitwin")
    except (UserError, FileNotFoundError) as error:
        _errors.print(f"error: {error}", style="bold red", markup=False, highlight=False)
        raise SystemExit(2) from error


def spread_labels(words: Sequence[str]) -> list[str]:
    """Allow ``--participant-label 01 02``, as BIDS apps do, beside one option a label.

    Examples
    --------
    >>> spread_labels(["--participant-label", "01", "02", "--nprocs", "2"])
    ['--participant-label', '01', '--participant-label', '02', '--nprocs', '2']
    """
    spread: list[str] = []
    taking = ""
    for word in words:
        if word in {_LABEL, _SESSION}:
            taking = word
        elif taking and not word.startswith("-"):
            spread += [taking, word]
        else:
            taking = ""
            spread.append(word)
    return spread


@app.callback(invoke_without_command=True)
def _root(
    *,
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Say more.")] = False,
) -> None:
    if version:
        _console.print(f"hemitwin {__version__}", highlight=False)
        raise typer.Exit
    handler = RichHandler(console=_errors, show_path=False, show_time=False, markup=False)
    logging.basicConfig(level=logging.WARNING, format="%(message)s", handlers=[handler])
    logging.getLogger("hemitwin").setLevel(logging.DEBUG if verbose else logging.INFO)
    if not verbose:
        # Lightning advertises and reports devices at INFO (a filter, because it sets its level
        # when it is imported); its remarks on its own use of torch are nothing a user could mend.
        talk = logging.getLogger("lightning.pytorch.utilities.rank_zero")
        talk.addFilter(lambda record: record.levelno >= logging.WARNING)
        warnings.filterwarnings("ignore", module=r"lightning\.")


@app.command()
def demo(
    out: Annotated[Path, typer.Argument(help="Folder to write; the demo owns it.")],
    seed: Annotated[int, typer.Option(help="Same seed, same demo.")] = 0,
) -> None:
    """Walk the whole way on synthetic people: cohort, training, relevance, Workbench."""
    from hemitwin.pipeline.demo import run_demo

    summary = run_demo(out, cache=_cache(), seed=seed)
    _print_rows("hemitwin demo", summary.rows)


@app.command()
def prepare(
    source: Annotated[
        Path,
        typer.Argument(
            metavar="BIDS_DIR", help="BIDS dataset, derivatives, HCP tree, or a list of scans."
        ),
    ],
    out: Annotated[Path, typer.Argument(help="Folder for the derivatives.")],
    level: Annotated[Literal["participant"], typer.Argument(help="Level of analysis.")],
    participant_label: Labels = None,
    session_id: Annotated[
        list[str] | None, typer.Option(_SESSION, help="Sessions, with or without 'ses-'.")
    ] = None,
    bids_filter_file: Annotated[
        Path | None, typer.Option(help="JSON: which entities the scans must have.")
    ] = None,
    input_type: Annotated[
        Literal["auto", "bids", "derivatives", "hcp", "list"], typer.Option(help="Kind of input.")
    ] = "auto",
    modality: Modality = "T1w",
    space: Annotated[str | None, typer.Option(help="The space- entity of derivatives.")] = None,
    alignment: Annotated[
        Literal["native", "acpc", "similarity", "affine", "nonlinear"] | None,
        typer.Option(help="How the scans already lie, if the input does not tell."),
    ] = None,
    pairing: Annotated[
        Literal["hemispheres", "brains"], typer.Option(help="What will be compared.")
    ] = "hemispheres",
    nprocs: Annotated[int, typer.Option(min=1, help="Processes.")] = 1,
    resolution_mm: Annotated[float, typer.Option(min=0.5, max=8, help="Voxel size.")] = 2.0,
) -> None:
    """Align scans to the symmetric template, refine the mid-plane, resample once."""
    from hemitwin.pipeline.config import validated
    from hemitwin.pipeline.prepare import PrepareConfig, prepare
    from hemitwin.pipeline.sources import SourceConfig

    del level  # `participant` is the only one; BIDS apps are called with it
    sessions = tuple(session_id or ())
    chosen = {
        "input_type": input_type,
        "modality": modality,
        "space": space,
        "alignment": alignment,
        "sessions": sessions,
        "filter_file": bids_filter_file,
    }
    outcome = prepare(
        source,
        out,
        labels=_labels(participant_label),
        config=PrepareConfig(resolution_mm=resolution_mm, pairing=pairing),
        sources=validated(SourceConfig, chosen, "prepare"),
        nprocs=nprocs,
    )
    skipped = sum(result.skipped for result in outcome.results)
    options = {
        "--input-type": input_type if input_type != "auto" else None,
        "--modality": modality if modality != "T1w" else None,
        "--space": space,
        "--alignment": alignment,
        "--pairing": pairing if pairing != "hemispheres" else None,
        "--resolution-mm": resolution_mm if resolution_mm != 2 else None,
        "--bids-filter-file": bids_filter_file,
        _SESSION: sessions,
    }
    again = ["prepare", str(source), str(out), "participant", *_words(options)]
    _finish(outcome, again, f"{skipped} up to date")


@app.command()
def train(
    config: Annotated[Path, typer.Argument(help="YAML file.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Run folder.")],
    overrides: Annotated[
        list[str] | None, typer.Option("--set", help="Override one key, a.b=c; repeatable.")
    ] = None,
) -> None:
    """Train a Siamese network with triplet loss and write a run folder."""
    from hemitwin.pipeline.config import load_config
    from hemitwin.pipeline.progress import epoch_progress
    from hemitwin.pipeline.train import train

    with epoch_progress() as report:
        run = train(load_config(config, overrides or ()), out, progress=report)
    rows = {"run": str(run.folder), **run.summary_rows(), "curves": str(run.folder / "curves.png")}
    _print_rows("hemitwin train", rows)


@app.command()
def evaluate(
    run: Annotated[Path, typer.Argument(help="Run folder.")],
    prepared: Annotated[Path | None, typer.Option(help="Prepared volumes, if moved.")] = None,
    simulated: Annotated[
        Path | None, typer.Option(help="Score this set of `simulate lesions` instead.")
    ] = None,
) -> None:
    """Score the test fold: every figure with an interval over families, beside a baseline."""
    from hemitwin.pipeline.brain_evaluation import evaluate_brains
    from hemitwin.pipeline.evaluate import EVALUATION, SIMULATED, evaluate
    from hemitwin.pipeline.runs import load_run

    loaded = load_run(run)
    if loaded.config.pairs is not None:
        rows = evaluate_brains(loaded, prepared=prepared).to_rows()
        _print_rows("hemitwin evaluate", {**rows, "written": str(run / f"{EVALUATION}.json")})
        return
    result = evaluate(loaded, prepared=prepared, simulated=simulated)
    stem = EVALUATION if simulated is None else SIMULATED
    written = {"written": str(run / f"{stem}.json"), "picture": str(run / f"{stem}.png")}
    _print_rows("hemitwin evaluate", {**result.to_rows(), **written})


@app.command()
def compare(
    runs: Annotated[
        list[Path],
        typer.Argument(help="Evaluated run folders; the first is held against the others."),
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder of the result.")] = Path(
        "comparison"
    ),
    simulated: Annotated[
        bool, typer.Option("--simulated", help="Compare the evaluations on a simulated set.")
    ] = False,
    draws: Annotated[int, typer.Option(min=100, help="Bootstrap draws over families.")] = 2000,
) -> None:
    """Compare evaluated runs: every figure, paired tests of differences, a forest plot."""
    from hemitwin.pipeline.compare import compare

    result = compare(runs, out, simulated=simulated, draws=draws)
    for row in result.rows:
        _print_rows(row.title, row.to_rows())
    kinds = {"written": "json", "table": "tsv", "picture": "png"}
    files = {name: str(out / f"compare.{suffix}") for name, suffix in kinds.items()}
    _print_rows("hemitwin compare", files)


@app.command()
def explain(
    run: Annotated[Path, typer.Argument(help="Run folder.")],
    derivatives: Derivatives,
    participant_label: Labels = None,
    lesion_seed: Annotated[
        int | None, typer.Option(help="Inject the lesion that this seed draws, then explain.")
    ] = None,
) -> None:
    """Write the relevance of the distance between the hemispheres, with its ledger."""
    from hemitwin.pipeline.explain import explain
    from hemitwin.pipeline.runs import load_run

    outcome = explain(
        load_run(run), derivatives, labels=_labels(participant_label), lesion_seed=lesion_seed
    )
    table = Table("case", "distance", "asymmetric", "ledger", title="hemitwin explain")
    for one in outcome.results:
        verdict = "yes" if one.asymmetric else "no"
        ratio = f"{one.ledger_ratio:.6f}"
        table.add_row(one.case.name, f"{one.distance:.4f}", verdict, ratio)
    _console.print(table)
    _finish(outcome, ["explain", str(run), str(derivatives)])


@app.command()
def parcellate(
    derivatives: Derivatives,
    participant_label: Labels = None,
    desc: Desc = "lrp",
    modality: Modality = "T1w",
) -> None:
    """Sum relevance over the 379 HCP-MMP regions; the rows add up to the score."""
    from hemitwin.pipeline.parcellate import parcellate

    outcome = parcellate(
        derivatives,
        cache=_cache(),
        labels=_labels(participant_label),
        desc=desc,
        modality=modality,
    )
    for one in outcome.results[:1]:
        top = one.table.nlargest(5, "sum")
        table = Table("region", "relevance", "share", title=f"{one.case.name}: largest regions")
        for row in top.itertuples():
            table.add_row(str(row.name), f"{row.sum:.5f}", f"{row.share:.1%}")
        _console.print(table)
    _finish(outcome, ["parcellate", str(derivatives), *_map_words(desc, modality)])


@app.command()
def export(
    derivatives: Derivatives,
    participant_label: Labels = None,
    desc: Desc = "lrp",
    modality: Modality = "T1w",
) -> None:
    """Write NIfTI, GIFTI and CIFTI files with a spec and a scene for Workbench."""
    from hemitwin.pipeline.export import export

    outcome = export(
        derivatives,
        cache=_cache(),
        labels=_labels(participant_label),
        desc=desc,
        modality=modality,
    )
    for one in outcome.results:
        _console.print(f"wb_view {shlex.quote(str(one.scene))}", highlight=False, soft_wrap=True)
    _finish(outcome, ["export", str(derivatives), *_map_words(desc, modality)])


@app.command(name="slice")
def slice_(
    prepared: Annotated[Path, typer.Argument(help="Folder that `hemitwin prepare` wrote.")],
    out: Annotated[Path, typer.Argument(help="Folder for the pictures.")],
    plane: Annotated[
        list[str] | None, typer.Option(help="axial, coronal, sagittal; repeatable.")
    ] = None,
    part: Annotated[str, typer.Option(help="whole or hemisphere.")] = "whole",
    modality: Modality = "T1w",
    step_mm: Annotated[float, typer.Option(min=0.5, help="Distance between slices.")] = 8.0,
    splits: Annotated[Path | None, typer.Option(help="A run's splits.json.")] = None,
    participants: Annotated[
        Path | None, typer.Option(help="participants.tsv or HCP CSV with families.")
    ] = None,
    participant_label: Labels = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the folds.")] = 0,
) -> None:
    """Write 2D PNG slices whose folds never share a subject."""
    from hemitwin.pipeline.config import validated
    from hemitwin.pipeline.slicing import SliceConfig, slice_dataset

    values = {
        "planes": plane or ["axial"],
        "part": part,
        "modality": modality,
        "step_mm": step_mm,
        "seed": seed,
    }
    outcome = slice_dataset(
        prepared,
        out,
        config=validated(SliceConfig, values, "slice"),
        labels=_labels(participant_label),
        splits=splits,
        participants=participants,
    )
    count = sum(len(rows) for rows in outcome.results)
    _finish(outcome, ["slice", str(prepared), str(out)], f"{count} slices")


@simulate_app.command(name="cohort")
def simulate_cohort(
    out: Annotated[Path, typer.Argument(help="Folder for the BIDS dataset.")],
    families: Annotated[
        str, typer.Option(help="How many: pairs of mz, dz and siblings; unrelated people.")
    ] = "mz=10,dz=10,siblings=5,unrelated=10",
    region: Annotated[
        list[str] | None, typer.Option(help="Heritable area, V1 or L_V1; repeatable.")
    ] = None,
    heritability: Annotated[float, typer.Option(min=0, max=1, help="In these areas.")] = 0.8,
    sites: Annotated[int, typer.Option(min=1, help="Scanners.")] = 1,
    family_table: Annotated[
        Path | None,
        typer.Option(help="Where the private table goes; OUT/families.private.csv by default."),
    ] = None,
    resolution_mm: Annotated[float, typer.Option(min=0.5, max=8, help="Voxel size.")] = 2.0,
    nprocs: Annotated[int, typer.Option(min=1, help="Processes.")] = 1,
    seed: Annotated[int, typer.Option(min=0, help="Same seed, same people.")] = 0,
) -> None:
    """Write synthetic twins, siblings and strangers who are alike in known areas only."""
    from hemitwin.pipeline.config import validated
    from hemitwin.pipeline.pedigree import read_counts
    from hemitwin.pipeline.synthetic_families import FamilyCohortConfig, write_families_cohort

    values = {
        "families": read_counts(families),
        "heritability": heritability,
        "sites": sites,
        "resolution_mm": resolution_mm,
        "seed": seed,
        **({"regions": tuple(region)} if region else {}),
    }
    config = validated(FamilyCohortConfig, values, "simulate cohort")
    made = write_families_cohort(
        out, config, cache=_cache(), family_table=family_table, nprocs=nprocs
    )
    rows = {
        "people": str(len(made.people)),
        "families (private)": str(made.family_table),
        "truth": str(made.truth),
        "least Jacobian": f"{made.least_jacobian:.2f}",
    }
    _print_rows("hemitwin simulate cohort", rows)


@simulate_app.command(name="lesions")
def simulate_lesions(
    prepared: Annotated[Path, typer.Argument(help="Folder that `hemitwin prepare` wrote.")],
    out: Annotated[Path, typer.Argument(help="Folder of the set.")],
    config: Annotated[
        Path | None, typer.Option(help="YAML: lesions, asymmetries, how many of each.")
    ] = None,
    overrides: Annotated[
        list[str] | None, typer.Option("--set", help="Override one key, a.b=c; repeatable.")
    ] = None,
    participant_label: Labels = None,
    nprocs: Annotated[int, typer.Option(min=1, help="Processes.")] = 1,
) -> None:
    """Write a fixed evaluation set: lesions, controls and shams with masks and a manifest."""
    from hemitwin.pipeline.config import read_config
    from hemitwin.pipeline.evaluation_set import EvaluationSetConfig, simulate_lesions

    outcome = simulate_lesions(
        prepared,
        out,
        config=read_config(EvaluationSetConfig, config, overrides or ()),
        labels=_labels(participant_label),
        nprocs=nprocs,
    )
    count = sum(len(rows) for rows in outcome.results)
    options = {"--config": config, "--set": tuple(overrides or ())}
    again = ["simulate", "lesions", str(prepared), str(out), *_words(options)]
    _finish(outcome, again, f"{count} volumes")


@batch_app.command(name="write", context_settings={"ignore_unknown_options": True})
def batch_write(
    stage: Annotated[str, typer.Argument(help="prepare or explain.")],
    arguments: Annotated[list[str], typer.Argument(help="The stage's own arguments.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="The sbatch file.")],
    subjects_per_task: Annotated[int, typer.Option(min=1, help="Subjects in a task.")] = 4,
    cpus: Annotated[int, typer.Option(min=1, help="Cores of a task.")] = 2,
    memory_gb: Annotated[int, typer.Option(min=1, help="Memory of a task.")] = 6,
    time: Annotated[str, typer.Option(help="Time limit of a task.")] = "01:00:00",
    partition: Annotated[str | None, typer.Option(help="Partition.")] = None,
    account: Annotated[str | None, typer.Option(help="Account.")] = None,
    setup: Annotated[str | None, typer.Option(help="Shell line before the work.")] = None,
) -> None:
    """Write a readable Slurm array for a stage."""
    from hemitwin.pipeline.batch import SlurmConfig, read_stage_call, write_batch
    from hemitwin.pipeline.config import validated

    values = {
        "subjects_per_task": subjects_per_task,
        "cpus": cpus,
        "memory_gb": memory_gb,
        "time": time,
        "partition": partition,
        "account": account,
        "setup": setup,
    }
    call = read_stage_call(stage, arguments)
    path = write_batch(out, call, validated(SlurmConfig, values, "batch write"))
    _console.print(f"sbatch {shlex.quote(str(path))}", highlight=False, soft_wrap=True)


@app.command()
def doctor() -> None:
    """Say which versions and programs are there, what is missing and what that costs."""
    from hemitwin.pipeline.doctor import examine

    findings = examine(_cache())
    signs = {True: "ok", False: "MISSING", None: "absent"}
    rows = {f"{signs[one.ok]:8}{one.name}": one.detail for one in findings}
    _print_rows("hemitwin doctor", rows)
    if any(finding.ok is False for finding in findings):
        raise typer.Exit(1)


def _labels(labels: list[str] | None) -> tuple[str, ...] | None:
    return tuple(labels) if labels else None


def _map_words(desc: str, modality: str) -> list[str]:
    return _words(
        {
            "--desc": desc if desc != "lrp" else None,
            "--modality": modality if modality != "T1w" else None,
        }
    )


def _words(options: dict[str, Any]) -> list[str]:
    """Write options as they were given; `None` and empty ones were not."""
    words: list[str] = []
    for name, value in options.items():
        for one in value if isinstance(value, tuple) else (value,):
            if one is not None:
                words += [name, f"{one:g}" if isinstance(one, float) else str(one)]
    return words


def _cache() -> Path:
    """Where the atlas is kept: `HEMITWIN_CACHE`, the XDG folder, or the home folder."""
    if folder := os.environ.get("HEMITWIN_CACHE"):
        return Path(folder)
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "hemitwin"


def _print_rows(title: str, rows: dict[str, str]) -> None:
    """Print aligned lines; no line is broken, so that paths can be copied."""
    width = max(len(name) for name in rows)
    lines = [title, *(f"  {name:{width}}  {value}" for name, value in rows.items())]
    _console.print("\n".join(lines), soft_wrap=True, highlight=False, markup=False)


def _finish(outcome: "Outcome[Any]", command: list[str], note: str = "") -> None:
    """Say what was done; end with 1 and the line to rerun when a case failed."""
    done = f"{len(outcome.results)} done{f', {note}' if note else ''}"
    _console.print(f"{done}, {len(outcome.failures)} failed", highlight=False)
    if outcome.failures:
        labels = dict.fromkeys(
            failure.case.split("_")[0].removeprefix("sub-") for failure in outcome.failures
        )
        again = shlex.join(["hemitwin", *command, _LABEL, *labels])
        _errors.print(f"run again: {again}", markup=False, highlight=False, soft_wrap=True)
        raise typer.Exit(1)
