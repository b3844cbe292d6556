"""Compares two commits of the package: speed and memory of the retrieval task.

    python -m benchmarks.kernel.commits OLD NEW --batch 512 4096 8192
    python -m benchmarks.kernel.commits OLD NEW --subject task-eager

OLD and NEW are commits, or folders of checkouts (`.` is this one as it stands). Each
side runs in a process of its own that imports its own `tfrs_negatives`; all else is
this checkout's. The two take turns, old, new, old, new, so that what else the machine
does falls on both alike. A step is value and both gradients of a call (`--calls`):

* plain: no masks, no correction;
* corrected: `query_keys`, `candidate_ids`, accidental hits, `StreamingFrequency`;
* requests: the same for rows in the order of requests, with `query_rows` and
  `candidate_rows`.

`--subject task` traces them with sizes that are unknown while tracing. `--subject
task-eager` calls the task in Python, at B = 32 unless told otherwise.

Milliseconds are medians over all steps. Ratios are new over old: the median over turns
of what two neighbouring turns give, so below 1 the new one is better. Memory is how far
the peak exceeded what was in use before the first step, the least of all processes.
Values are compared step by step; it fails where they differ by more than 1e-5.
"""

import pathlib
import statistics
import sys

from benchmarks.common import command_line, csv_rows
from benchmarks.common.checkouts import package_of
from benchmarks.common.costs import now, since
from benchmarks.common.provenance import FIELDS as WHERE
from benchmarks.common.provenance import provenance
from benchmarks.common.worker_process import SteppingWorker

PACKAGES = "tensorflow", "tensorflow-recommenders", "tf-keras", "keras", "numpy"
CALLS = "plain", "corrected", "requests"
SIDES = "old", "new"
BATCHES = {"task": [512, 4096, 8192], "task-eager": [32]}
FIGURES = (
    "subject call batch width keras old new turns steps wall_ms_old wall_ms_new "
    "wall_new_over_old cpu_ms_old cpu_ms_new cpu_new_over_old memory_mib_old "
    "memory_mib_new value_difference"
).split()
FIELDS = [*FIGURES, *WHERE]
TURN_SECONDS = 0.1  # Many steps a turn where they are short.
MOST_STEPS_A_TURN = 50
TOLERANCE = 1e-5


def compare(words, folders, keras, processes, seconds, least=5):
    """Figures of one call at one size, the two sides in turns.

    Args:
      words: Arguments of the workers.
      folders: Folder of each side's package, by "old" and "new".
      keras: 2 or 3.
      processes: How many processes each side has, one pair after the other.
      seconds: How long to go on, all pairs together.
      least: Turns of a pair at least.
    """
    pairs = [
        _take_turns(words, folders, keras, seconds / processes, least)
        for _ in range(processes)
    ]
    figures = {"turns": sum(len(turns) for turns, _ in pairs)}
    figures["steps"] = sum(len(workers["old"].times["wall"]) for _, workers in pairs)
    for name in ("wall", "cpu"):
        for side in SIDES:
            taken = [s for _, workers in pairs for s in workers[side].times[name]]
            figures[f"{name}_ms_{side}"] = round(1e3 * statistics.median(taken), 3)
        ratios = [turn["new"][name] / turn["old"][name] for t, _ in pairs for turn in t]
        figures[f"{name}_new_over_old"] = round(statistics.median(ratios), 3)
    for side in SIDES:
        growth = min(workers[side].growth_mib for _, workers in pairs)
        figures[f"memory_mib_{side}"] = round(growth, 1)
    differences = [
        abs(new - old) / max(abs(old), 1e-12)
        for _, workers in pairs
        for old, new in zip(*(workers[side].values for side in SIDES), strict=True)
    ]
    return {**figures, "value_difference": f"{max(differences):.1e}"}


def _take_turns(words, folders, keras, seconds, least):
    """Medians of each turn, by side, and the workers, which have ended."""
    workers = {}
    try:
        for side in SIDES:
            workers[side] = SteppingWorker(
                "benchmarks.kernel.task_worker",
                *words,
                folder=folders[side],
                environment={"TF_USE_LEGACY_KERAS": str(int(keras == 2))},
            )
        for worker in workers.values():
            worker.read()
        # The first steps allocate; the others tell how many make a turn.
        first = [worker.step(3)["wall"][1:] for worker in workers.values()]
        calls = int(TURN_SECONDS / max(min(map(min, first)), 1e-9))
        calls = min(max(calls, 1), MOST_STEPS_A_TURN)
        for worker in workers.values():
            worker.forget_times()
        turns, start = [], now()
        while len(turns) < least or since(start)[0] < seconds:
            turns.append({})
            for side, worker in workers.items():
                answer = worker.step(calls)
                turns[-1][side] = {
                    name: statistics.median(answer[name]) for name in ("wall", "cpu")
                }
        return turns, workers
    finally:
        for worker in workers.values():
            worker.close()


def main():
    parser = command_line.parser(__doc__)
    parser.add_argument("old", help="commit, or folder of a checkout")
    parser.add_argument("new", help="commit, or folder of a checkout")
    parser.add_argument("--subject", choices=BATCHES, default="task")
    parser.add_argument("--calls", nargs="+", choices=CALLS, default=list(CALLS))
    parser.add_argument("--batch", type=int, nargs="+", help="rows")
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--keras", type=int, choices=(2, 3), default=2)
    parser.add_argument("--seconds", type=float, default=20, help="a call and size")
    parser.add_argument("--processes", type=int, default=3, help="of each side")
    parser.add_argument("--output", type=pathlib.Path, help="rows are added to it")
    arguments = command_line.parse(
        parser, calls=["corrected"], batch=[64], seconds=0.1, processes=1
    )
    about, differing = provenance(PACKAGES), []
    with package_of(arguments.old) as old, package_of(arguments.new) as new:
        folders, names = {"old": old[0], "new": new[0]}, {"old": old[1], "new": new[1]}
        for batch in arguments.batch or BATCHES[arguments.subject]:
            for call in arguments.calls:
                row = {
                    "subject": arguments.subject,
                    "call": call,
                    "batch": batch,
                    "width": arguments.width,
                    "keras": arguments.keras,
                    **names,
                    **compare(
                        (call, batch, arguments.width, arguments.subject),
                        folders,
                        arguments.keras,
                        arguments.processes,
                        arguments.seconds,
                    ),
                }
                csv_rows.show(row)
                if arguments.output:
                    csv_rows.append(arguments.output, FIELDS, {**row, **about})
                if float(row["value_difference"]) > TOLERANCE:
                    differing.append(f"{call}, B = {batch}")
    if differing:
        sys.exit(f"FAIL: the loss differs: {'; '.join(differing)}")


if __name__ == "__main__":
    main()
