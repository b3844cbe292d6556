"""The default model of `tfrs-negatives train` against all that it is compared with.

    python -m benchmarks.recommender.run latest-small movielens-100k --seeds 0 1 2

Runs the command as a user does, one seed at a time, and keeps its figures. Implicit
ALS (Hu et al., ICDM 2008), which the command does not have, and EASE^R, which it leaves
out of large tables, are measured on the same split by the same evaluation; what they
are regularized by was chosen by recall@50 where the training rows are split once more.
What has its rows already is not run again.
"""

import json
import pathlib
import subprocess
import sys
import tempfile

from benchmarks.common import command_line, csv_rows
from benchmarks.common.provenance import FIELDS as WHERE
from benchmarks.common.provenance import PROJECT, provenance
from benchmarks.recommender import sets
from tfrs_negatives.cli import comparison, row_names, trade_off

ROWS = pathlib.Path(__file__).with_name("results.csv")
MEASURES = {
    "recall@10": "recall_10",
    "recall@50": "recall_50",
    "recall@100": "recall_100",
    "ndcg@10": "ndcg_10",
    "mrr@100": "mrr_100",
    "head recall@50": "head_recall_50",
    "tail recall@50": "tail_recall_50",
    "coverage@10": "coverage_10",
    comparison.SECONDS: "training_seconds",
}
PACKAGES = "tensorflow", "tensorflow-recommenders", "numpy", "scipy", "implicit"
FIELDS = ["set", "model", "seed", *MEASURES.values(), *WHERE]
ALS = "ALS"
DISCOUNTED = "ours, discounted"


def main():
    parser = command_line.parser(__doc__, ROWS, data=True)
    parser.add_argument("sets", nargs="*", choices=[[], *sets.SETS], metavar="SET")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--without-others", action="store_true")
    parser.add_argument("--train-arguments", default="", help="further ones, one text")
    arguments = command_line.parse(
        parser,
        sets=["latest-small"],
        seeds=[0],
        without_others=True,
        train_arguments="--steps-per-epoch 5 --epochs 2",
    )
    about = provenance(PACKAGES)
    done = {(r["set"], r["model"], r["seed"]) for r in csv_rows.read(arguments.output)}

    def keep(name, model, seed, figures):
        row = {"set": name, "model": model, "seed": seed, **about}
        row |= {field: _rounded(figures.get(m)) for m, field in MEASURES.items()}
        csv_rows.append(arguments.output, FIELDS, row)
        csv_rows.show(row, FIELDS[: 3 + len(MEASURES)])

    for name in arguments.sets or sets.SETS:
        for seed in arguments.seeds:
            if (name, "ours", str(seed)) not in done:
                found = trained(name, seed, arguments.train_arguments.split())
                for model, figures in found.items():
                    keep(name, model, seed, figures)
        lacking = [s for s in arguments.seeds if (name, ALS, str(s)) not in done]
        if lacking and not arguments.without_others:
            of_seeds = worker("als_worker", name, *map(str, lacking))
            for seed, figures in zip(lacking, of_seeds, strict=True):
                keep(name, ALS, seed, figures)
        has_ease = any(
            row["set"] == name and row["model"] == row_names.EASE
            for row in csv_rows.read(arguments.output)
        )
        if not has_ease and not arguments.without_others:
            (figures,) = worker("ease_worker", name)
            keep(name, row_names.EASE, arguments.seeds[0], figures)


def trained(name, seed, others=()):
    """What the command's `figures.json` says: a dict of measures for each model."""
    with tempfile.TemporaryDirectory(prefix="recommender.") as folder:
        folder = pathlib.Path(folder)
        output = folder / "output"
        words = [sys.executable, "-m", "tfrs_negatives.cli", "train"]
        words += [*sets.words(name, folder), "--seeds", str(seed), "--no-index"]
        words += ["--no-all-rows", "--verbose", "0", "--output", str(output), *others]
        subprocess.run(words, check=True, cwd=PROJECT, stdout=subprocess.DEVNULL)
        written = json.loads((output / "figures.json").read_text())
    figures = written["figures"]
    discounted = trade_off.chosen_figures(written["popularity"])
    if discounted is not None:
        figures[DISCOUNTED] = discounted
    return {
        model: {measure: found["mean"] for measure, found in of.items() if found}
        for model, of in figures.items()
    }


def worker(module, *words):
    """The lines of JSON of a process of its own."""
    words = [sys.executable, "-m", f"benchmarks.recommender.{module}", *words]
    done = subprocess.run(words, check=True, cwd=PROJECT, stdout=subprocess.PIPE)
    return [json.loads(line) for line in done.stdout.splitlines() if line[:1] == b"{"]


def _rounded(value):
    return "" if value is None else round(value, 5)


if __name__ == "__main__":
    main()
