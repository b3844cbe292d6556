"""Training on 100 million rows, against 10 million: rows a second, and memory.

    python -m benchmarks.scale.train --folder FOLDER            # turns; 20 minutes
    python -m benchmarks.scale.train --folder FOLDER --epoch    # a whole epoch; an hour

Tables are generated into the folder, and stay there: 12 bytes a row. Beside them a run
needs 24 bytes a training row and 32 a row for its own files, for a while.

Turns: both trainings are there at once, each in a process of its own, and make so many
steps in turns; the ratio is the median over turns of what neighbours give. Reading the
table and building the model are timed apart. `--epoch` runs `tfrs-negatives train`
itself, for an epoch of the largest table, without an index.
"""

import json
import pathlib
import statistics
import tempfile

from benchmarks.common import command_line, costs, csv_rows
from benchmarks.common.markdown import verdict
from benchmarks.common.provenance import FIELDS as WHERE
from benchmarks.common.provenance import PROJECT, provenance
from benchmarks.common.worker_process import WorkerProcess, module_command
from benchmarks.scale import generate

ROWS = pathlib.Path(__file__).with_name("train.csv")
PACKAGES = "tensorflow", "tensorflow-recommenders", "tf-keras", "numpy", "pyarrow"
FIELDS = (
    "what rows users items training_rows batch negatives width steps turns "
    "rows_a_second ratio seconds_to_read seconds_to_build seconds peak_mib"
).split() + WHERE
ROWS_A_USER = 50
LIMIT_MIB = 12 * 1024
WARM_UP_STEPS = 30


def table(folder, num_rows, num_items):
    """Path of the generated table, made if it is not there."""
    path = folder / f"{num_rows}_rows_{num_items}_items.parquet"
    if not path.exists():
        print(f"writing {path}", flush=True)
        part = path.with_suffix(".part")
        generate.write(part, num_rows, max(2, num_rows // ROWS_A_USER), num_items)
        part.rename(path)
    return path


def words(path, arguments):
    """Options of the command."""
    return [
        *("--data", path, "--time", "time", "--seeds", 0),
        *("--batch-size", arguments.batch, "--num-negatives", arguments.negatives),
        *("--dim", arguments.width),
    ]


def settings(arguments):
    """Columns of a row that are the command's options."""
    return {
        "batch": arguments.batch,
        "negatives": arguments.negatives,
        "width": arguments.width,
        **provenance(PACKAGES),
    }


def start(path, scratch, arguments):
    """A worker that trains on a table, and what it says once all is built."""
    worker = WorkerProcess(
        "benchmarks.scale.training_worker", scratch, *words(path, arguments)
    )
    return worker, worker.read()


def take_turns(workers, steps, num_turns):
    """Wall seconds of each turn, lists by the workers' names."""
    for worker in workers.values():
        worker.ask(WARM_UP_STEPS)
    answers = {name: [] for name in workers}
    for turn in range(num_turns):
        for name in list(workers)[:: -1 if turn % 2 else 1]:
            answers[name].append(workers[name].ask(steps))
            rate = steps / answers[name][-1]["wall"]
            print(
                f"turn {turn + 1}, {name} rows: {rate:.2f} steps a second", flush=True
            )
    return answers


def rows_of_turns(facts, answers, arguments):
    """Rows of the CSV: of the first table, and of the others against it."""
    first = next(iter(answers.values()))
    rows = []
    for name, of_turns in answers.items():
        num = arguments.steps * arguments.batch
        rates = [num / answer["wall"] for answer in of_turns]
        ratios = [
            before["wall"] / answer["wall"]
            for before, answer in zip(first, of_turns, strict=True)
        ]
        rows.append(
            {
                "what": "turns",
                **{k: round(v) for k, v in facts[name].items() if k in FIELDS},
                "steps": arguments.steps,
                "turns": len(of_turns),
                "rows_a_second": round(statistics.median(rates)),
                "ratio": round(statistics.median(ratios), 3),
                "peak_mib": round(of_turns[-1]["peak_mib"]),
                **settings(arguments),
            }
        )
    return rows


def row_of_epoch(path, arguments):
    """Runs the command for an epoch."""
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        output = pathlib.Path(folder) / "output"
        command = module_command(
            "tfrs_negatives.cli",
            "train",
            *words(path, arguments),
            *("--epochs", 1, "--baselines", "--no-index", "--output", output),
        )
        cost = costs.of_command(command, cwd=PROJECT)
        written = json.loads((output / "figures.json").read_text())
    data = written["data"]
    return {
        "what": "epoch",
        "rows": data["interactions"],
        "users": data["users"],
        "items": data["items"],
        "training_rows": data["training interactions"],
        "steps": -(-data["training interactions"] // arguments.batch),
        "turns": 1,
        "rows_a_second": round(written["figures"]["ours"]["rows a second"]["mean"]),
        "seconds": round(cost["seconds"]),
        "peak_mib": round(cost["peak_mib"]),
        **settings(arguments),
    }


def judge(row):
    """Prints whether a row shows what it has to."""
    peak = row["peak_mib"]
    verdict(peak < LIMIT_MIB, f"{peak} MiB at the most, {LIMIT_MIB} allowed")
    if row["what"] == "turns":
        verdict(
            row["ratio"] >= 0.8, f"{row['ratio']} of the rate of fewer rows, >= 0.8"
        )


def main():
    parser = command_line.parser(__doc__, ROWS)
    parser.add_argument(
        "--folder", type=pathlib.Path, help="for tables and rows (default: a temporary)"
    )
    parser.add_argument(
        "--rows", type=int, nargs="+", default=[10_000_000, 100_000_000]
    )
    parser.add_argument("--items", type=int, default=10_000_000)
    parser.add_argument("--batch", type=int, default=2048)
    parser.add_argument("--negatives", type=int, default=1024)
    parser.add_argument("--width", type=int, default=32)
    parser.add_argument("--steps", type=int, default=500, help="of a turn")
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--epoch", action="store_true")
    arguments = command_line.parse(
        parser, rows=[2_000, 6_000], items=500, batch=64, negatives=32, width=8,
        steps=5, turns=2,
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as temporary:
        arguments.folder = arguments.folder or pathlib.Path(temporary)
        arguments.folder.mkdir(parents=True, exist_ok=True)
        paths = [table(arguments.folder, n, arguments.items) for n in arguments.rows]
        if arguments.epoch:
            rows = [row_of_epoch(paths[-1], arguments)]
        else:
            with tempfile.TemporaryDirectory(dir=arguments.folder) as scratch:
                rows = run_turns(paths, scratch, arguments)
    for row in rows:
        csv_rows.show(row)
        csv_rows.append(arguments.output, FIELDS, row)
        judge(row)


def run_turns(paths, scratch, arguments):
    """Starts a training on each table, one after the other, and has them take turns."""
    workers, facts = {}, {}
    try:
        for path, name in zip(paths, arguments.rows, strict=True):
            workers[name], facts[name] = start(path, scratch, arguments)
            print(f"{name} rows: {facts[name]}", flush=True)
        answers = take_turns(workers, arguments.steps, arguments.turns)
    finally:
        for worker in workers.values():
            worker.close()
    return rows_of_turns(facts, answers, arguments)


if __name__ == "__main__":
    main()
