"""The whole training step on large tables, against TFRS, PyTorch and its own parts.

    python -m benchmarks.steps.run

1,000,000 users x 300,000 items x 64, 8,192 rows a batch and as many uniform negatives.
*Ours* trains with `model.fit`: same-user mask, accidental hits, streaming log Q, and
`optimizers.LazyAdam` (or Keras's Adam or Adagrad), under Keras 2 and Keras 3. *Bare* is
the same gather, towers, loss and update as a function that is called on batches in
memory, so that fit / bare - 1 is what the input pipeline and Keras add. TFRS's task
stands in the same model, with the same corrections and without, with Keras's Adam;
PyTorch has sparse tables and `SparseAdam`, eager and with its loss compiled.

Every subject is a process; they take turns of so many steps. `fit` reads ahead by a few
batches while others have their turn, which hides a part of the pipeline's cost: the
more steps a turn, the less.
"""

import pathlib

import numpy as np

from benchmarks.common import command_line, csv_rows
from benchmarks.common.markdown import verdict
from benchmarks.common.provenance import FIELDS as WHERE
from benchmarks.common.provenance import provenance
from benchmarks.common.worker_process import SteppingWorker, WorkerFailed
from benchmarks.steps.problem import Problem

ROWS = pathlib.Path(__file__).with_name("results.csv")
PACKAGES = "tensorflow tensorflow-recommenders tf-keras keras numpy torch".split()
FIELDS = (
    "against subject keras optimizer way users items width batch negatives turns steps "
    "wall_ms cpu_ms this_over_ours_2 this_over_ours_3"
).split() + WHERE
FIT, TORCH = "benchmarks.steps.fit_worker", "benchmarks.steps.torch_worker"
# Subject, Keras, optimizer, way, steps a turn.
OURS = [("ours", keras, "lazy", "fit", 16) for keras in (2, 3)]
#: What takes turns with ours: all at once would not fit in memory.
AGAINST = {
    "bare": [("ours", keras, "lazy", "bare", 16) for keras in (2, 3)],
    "optimizers": [
        ("ours", keras, optimizer, "fit", 4)
        for keras in (2, 3)
        for optimizer in ("adam", "adagrad")
    ],
    "tfrs": [(task, 2, "adam", "fit", 1) for task in ("tfrs", "tfrs_plain")],
    "torch": [("torch", "", "SparseAdam", way, 2) for way in ("eager", "compiled")],
}


def start(subject, problem):
    """The process of a subject, or None where it does not run here."""
    task, keras, optimizer, way, _ = subject
    sizes = [problem.users, problem.items, problem.width, problem.batch]
    sizes += [problem.negatives, problem.rows]
    words = (TORCH, way) if task == "torch" else (FIT, task, optimizer, way)
    legacy = "0" if keras == 3 else "1"
    worker = SteppingWorker(*words, *sizes, environment={"TF_USE_LEGACY_KERAS": legacy})
    try:
        worker.read()
        worker.step(2)  # Allocate, and fill caches.
    except WorkerFailed as error:
        print(f"{subject} does not run here: {error}", flush=True)
        worker.close()
        return None
    worker.forget_times()
    return worker


def times(worker, steps):
    """[turns, 2] wall and CPU seconds a step: the median of each turn's steps."""
    both = np.array([worker.times["wall"], worker.times["cpu"]])
    return np.median(both.reshape(2, -1, steps), axis=2).T


def measured(against, problem, turns):
    """Rows of the CSV of ours and those of `AGAINST[against]`, having taken turns."""
    workers = {}
    try:
        for subject in [*OURS, *AGAINST[against]]:
            if worker := start(subject, problem):
                workers[subject] = worker
        for turn in range(turns):
            # Who comes after whom changes from turn to turn.
            for subject in list(workers)[:: -1 if turn % 2 else 1]:
                workers[subject].step(subject[-1])
    finally:
        for worker in workers.values():
            worker.close()
    return [{"against": against, **row} for row in rows_of(workers, problem, turns)]


def rows_of(workers, problem, turns):
    """Rows of the CSV."""
    by_keras = {}
    for subject, worker in workers.items():
        if subject in OURS:
            by_keras[subject[1]] = times(worker, subject[-1])[:, 0]
    for subject, worker in workers.items():
        task, keras, optimizer, way, steps = subject
        taken = times(worker, steps)
        wall, cpu = 1e3 * np.median(taken, axis=0)
        yield {
            "subject": task,
            "keras": keras,
            "optimizer": optimizer,
            "way": way,
            "users": problem.users,
            "items": problem.items,
            "width": problem.width,
            "batch": problem.batch,
            "negatives": problem.negatives,
            "turns": turns,
            "steps": turns * steps,
            "wall_ms": round(float(wall), 1),
            "cpu_ms": round(float(cpu), 1),
            **{
                f"this_over_ours_{number}": _ratio(taken[:, 0], by_keras.get(number))
                for number in (2, 3)
            },
        }


def _ratio(above, below):
    return "" if below is None else round(float(np.median(above / below)), 3)


def judge(row):
    """Prints whether a row shows what it has to, against ours of either Keras."""
    for number in (2, 3):
        ratio = row[f"this_over_ours_{number}"]
        name = f"{row['subject']} {row['way']} over ours of Keras {number}: {ratio}"
        if ratio == "":
            continue
        if row["way"] == "bare" and row["keras"] == number:
            verdict(1 / ratio <= 1.05, f"{name}, >= {1 / 1.05:.3f} (5% more in fit)")
        elif row["subject"] == "tfrs":
            verdict(ratio >= 2.5, f"{name}, >= 2.5")
        elif row["subject"] == "torch":
            verdict(ratio >= 1.3, f"{name}, >= 1.3")


def main():
    parser = command_line.parser(__doc__, ROWS)
    for name in ("users", "items", "width", "batch", "negatives"):
        parser.add_argument(f"--{name}", type=int, default=getattr(Problem, name))
    parser.add_argument("--turns", type=int, default=7)
    parser.add_argument("--against", nargs="+", choices=AGAINST, default=[*AGAINST])
    arguments = command_line.parse(
        parser, users=1000, items=500, width=8, batch=64, negatives=64, turns=1
    )
    sizes = [arguments.users, arguments.items, arguments.width, arguments.batch]
    few = {"rows": 64 * arguments.batch} if arguments.quick else {}
    problem = Problem(*sizes, arguments.negatives, **few)
    about = provenance(PACKAGES)
    for against in arguments.against:
        for row in measured(against, problem, arguments.turns):
            csv_rows.show(row, [f for f in FIELDS if f in row and row[f] != ""])
            csv_rows.append(arguments.output, FIELDS, {**row, **about})
            judge(row)


if __name__ == "__main__":
    main()
