"""What networks say of people they never learnt from: folds of one recipe put together.

    python benchmarks/out_of_fold.py --table benchmarks/out_of_fold.tsv --add RUN [RUN ...]
    python benchmarks/out_of_fold.py --table benchmarks/out_of_fold.tsv \\
        --people DATASET/participants.tsv [...] --picture docs/images/auc_by_size.png

`--add` appends the scored test pairs of evaluated runs to the table, which is committed: runs are
not kept. They are those of `hemitwin evaluate RUN --simulated SET`, one set for all folds, or with
`--own` those of the run's own lesions. Then it prints

- the AUC by size against the brains without a lesion, of network and arithmetic, and the one less
  the other: in each fold by itself and averaged over folds (scores of two networks have no common
  scale), with 95 % intervals over subjects, drawn within folds (2,000 draws);
- false alarms and lesions found at a stated 5 %. A brain's threshold comes from the brains without
  a lesion of all other subjects, each scored by a network that had not learnt from it: the
  ceil(.95 (n + 1))-th smallest of n scores (split conformal prediction within a fold; over folds,
  whose networks differ, approximate). Before, scores are standardised by median and robust SD of
  the fold's brains without a lesion but for the subject's own. Counted by scanner (`--people`: one
  table a scanner) and by age; in brackets what 5 % allow at 95 % (one-sided, binomial).

The picture shows the AUC by size of network, arithmetic, and of who knows where to look.
"""

import argparse
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
from jaxtyping import Float
from matplotlib.figure import Figure
from scipy.stats import binom

from hemitwin.atlases import save_table
from hemitwin.pipeline.evaluation.breakdown import SIZE_BINS_MM3, Bin
from hemitwin.pipeline.evaluation.results import EVALUATION, SIMULATED, pairs_path
from hemitwin.pipeline.stage.errors import UserError
from hemitwin.pipeline.stage.pictures import BLUE, paper_style
from hemitwin.pipeline.statistics.bootstrap import Clusters, Estimate
from hemitwin.pipeline.statistics.detection_threshold import detection_threshold
from hemitwin.pipeline.statistics.metrics import drawn_figures
from hemitwin.pipeline.training.runs import load_run

KEPT = ("subject", "role", "side", "volume_mm3", "score", "normative_asymmetry", "known_place")
SCORES = {"network": "score", "arithmetic": "normative_asymmetry"}
EDGES_ML = tuple(float(one) for one in np.geomspace(0.25, 32, 8))
AGES = ((0, 35), (35, 50), (50, 65), (65, 120))
DRAWS = 2000
RATE = 0.05


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--table", type=Path, required=True, help="scored pairs of the folds")
    parser.add_argument("--add", nargs="+", type=Path, default=[], help="evaluated runs")
    parser.add_argument("--own", action="store_true", help="add the runs' own lesions")
    parser.add_argument("--people", nargs="+", type=Path, default=[], help="participants.tsv")
    parser.add_argument("--picture", type=Path, help="PNG file of the AUC by size")
    options = parser.parse_args()
    for folder in options.add:
        add(options.table, folder, EVALUATION if options.own else SIMULATED)
    rows = pd.read_csv(options.table, sep="\t")
    folds = sorted(rows["fold"].unique())
    print(f"{rows['subject'].nunique()} subjects, folds {', '.join(map(str, folds))}\n")
    print(pd.DataFrame(list(areas(rows))).to_string(index=False))
    print(f"\nabove the score that {RATE:.0%} may exceed")
    print(called_by_group(rows, people_of(options.people)).to_string(index=False))
    if options.picture:
        picture(options.picture, rows)


def add(table: Path, folder: Path, stem: str) -> None:
    try:
        run = load_run(folder)
        pairs = pd.read_csv(pairs_path(folder, stem), sep="\t")
    except (OSError, UserError) as error:
        msg = f"{folder} must be an evaluated run: {error}"
        raise SystemExit(msg) from error
    rows = pairs.loc[:, list(KEPT)].assign(fold=run.config.split.fold)
    if table.exists():
        known = pd.read_csv(table, sep="\t")
        if run.config.split.fold in set(known["fold"]):
            msg = f"{table} has fold {run.config.split.fold} already; take its rows out first"
            raise SystemExit(msg)
        rows = pd.concat([known, rows], ignore_index=True)
    save_table(table, rows.round(5))


def areas(rows: pd.DataFrame) -> Iterator[dict[str, object]]:
    """Give figures by size."""
    for sizes in SIZE_BINS_MM3:
        found = of_folds(rows, sizes)
        if found is None:
            continue
        own, plain = found["network"], found["arithmetic"]
        lesions = rows[lesions_of(rows, sizes)]
        yield {
            "size": sizes.name,
            "lesions": len(lesions),
            "network": Estimate.of(*own),
            "arithmetic": Estimate.of(*plain),
            "difference": Estimate.of(own[0] - plain[0], own[1] - plain[1]),
            "known place": f"{lesions['known_place'].mean():.3f}",
        }


def lesions_of(rows: pd.DataFrame, sizes: Bin) -> "pd.Series[bool]":
    return (rows["role"] == "lesion") & sizes.holds(rows["volume_mm3"].to_numpy(float))


def of_folds(
    rows: pd.DataFrame, sizes: Bin
) -> dict[str, tuple[float, Float[np.ndarray, " draws"]]] | None:
    """Average over folds the AUC of each, and its draws."""
    parts = [
        part[(part["role"] == "healthy") | lesions_of(part, sizes)]
        for _, part in rows.groupby("fold")
    ]
    parts = [part for part in parts if (part["role"] == "lesion").any()]
    if not parts:
        return None
    found: dict[str, list[tuple[float, Float[np.ndarray, " draws"]]]] = {}
    for number, part in enumerate(parts):
        labels = (part["role"] == "lesion").to_numpy(bool)
        clusters = Clusters.of(list(part["subject"]))
        for name, column in SCORES.items():
            scores = part[column].to_numpy(float)
            values, drawn = drawn_figures(
                labels, scores, clusters, threshold=None, draws=DRAWS, seed=number
            )
            found.setdefault(name, []).append((values["auc"], drawn["auc"]))
    return {
        name: (float(np.mean([one for one, _ in all_])), np.mean([few for _, few in all_], axis=0))
        for name, all_ in found.items()
    }


def called(rows: pd.DataFrame, column: str) -> "pd.Series[bool]":
    """Tell which pairs are above the threshold that all other subjects give.

    A subject's own brain is left out of its fold's median and spread: it would make itself look
    more usual.
    """
    healthy = rows[rows["role"] == "healthy"]
    standard = pd.Series(np.nan, index=rows.index)
    for (fold, subject), part in rows.groupby(["fold", "subject"]):
        others = healthy[(healthy["fold"] == fold) & (healthy["subject"] != subject)][column]
        low, middle, high = np.percentile(others, [16, 50, 84])
        standard[part.index] = (part[column] - middle) / ((high - low) / 2)
    calls = pd.Series(data=False, index=rows.index)
    for subject, part in rows.groupby("subject"):
        known = standard[healthy.index[healthy["subject"] != subject]].to_numpy(float)
        threshold = detection_threshold(known, false_positive_rate=RATE).value
        calls[part.index] = standard[part.index] > threshold
    return calls


def people_of(tables: Sequence[Path]) -> pd.DataFrame:
    people = [
        pd.read_csv(path, sep="\t").assign(scanner=path.parent.name)[
            ["participant_id", "age", "scanner"]
        ]
        for path in tables
    ]
    return pd.concat(people) if people else pd.DataFrame(columns=["participant_id", "age"])


def called_by_group(rows: pd.DataFrame, people: pd.DataFrame) -> pd.DataFrame:
    """Count false alarms and found lesions, of everyone, by scanner and by age."""
    rows = rows.merge(people, left_on="subject", right_on="participant_id", how="left")
    groups = {"all": pd.Series(data=True, index=rows.index)}
    if "scanner" in rows:
        groups |= {str(one): rows["scanner"] == one for one in sorted(set(people["scanner"]))}
        age = pd.to_numeric(rows["age"], errors="coerce")
        groups |= {f"{a} to {b - 1} years": age.between(a, b, "left") for a, b in AGES}
    lines = []
    for name, column in SCORES.items():
        calls = called(rows, column)
        for group, chosen in groups.items():
            healthy = chosen & (rows["role"] == "healthy")
            count = int(healthy.sum())
            if not count:
                continue
            allowed = int(binom.ppf(0.95, count, RATE))
            found = {
                sizes.name: f"{calls[chosen & lesions_of(rows, sizes)].mean():.3f}"
                for sizes in SIZE_BINS_MM3
                if lesions_of(rows, sizes).any()
            }
            alarms = f"{int(calls[healthy].sum())} of {count} ({allowed})"
            lines.append({"score": name, "group": group, "false alarms": alarms, **found})
    return pd.DataFrame(lines)


def picture(path: Path, rows: pd.DataFrame) -> None:
    """Draw the AUC by size: intervals as bands."""
    bins = [Bin(f"from {low:g} ml", 1000 * low, 1000 * high) for low, high in pairwise(EDGES_ML)]
    places = [float(np.sqrt(low * high)) for low, high in pairwise(EDGES_ML)]
    with paper_style():
        figure = Figure(figsize=(4.6, 3.2), dpi=200, layout="constrained")
        panel = figure.subplots()
        for name, colour in (("network", BLUE), ("arithmetic", "#c8641e")):
            found = [of_folds(rows, one) for one in bins]
            points = [
                (place, Estimate.of(*one[name]))
                for place, one in zip(places, found, strict=True)
                if one is not None
            ]
            x = [place for place, _ in points]
            low, high = ([getattr(one, end) for _, one in points] for end in ("low", "high"))
            panel.fill_between(x, low, high, color=colour, alpha=0.18, linewidth=0)
            panel.plot(x, [one.value for _, one in points], color=colour, marker="o", label=name)
        known = [rows[lesions_of(rows, one)]["known_place"].mean() for one in bins]
        panel.plot(places, known, color="0.4", linestyle="--", label="at the known place")
        panel.axhline(0.5, color="0.7", linewidth=0.7)
        panel.set_xscale("log")
        panel.set_xticks(EDGES_ML, [f"{one:g}" for one in EDGES_ML])
        panel.minorticks_off()
        panel.set(xlabel="lesion, ml", ylabel="AUC", ylim=(0.4, 1.01))
        panel.legend(frameon=False, loc="lower right")
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path)


if __name__ == "__main__":
    main()
