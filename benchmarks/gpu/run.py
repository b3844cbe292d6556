"""Measures exported programs on this machine's GPU, beside PyTorch; no TensorFlow.

    python -m benchmarks.gpu.run --programs programs

Each case, a subject at a size, is a row: compiled by this machine's XLA, its outputs
compared with a float64 reference that PyTorch computes here, timed, its memory read.
The most important sizes come first, and it stops once `--seconds` are over. What has no
memory, or no package, or no reference, is a row that says so. Cases that the CSV holds,
of the same programs on the same device, are not run again where they were "ok" or had
no memory.

XLA executes in one process and PyTorch in another, so that either can be ended.
"""

import json
import pathlib
import shutil
import subprocess
import tempfile
import threading
import time

from benchmarks.common import command_line, csv_rows
from benchmarks.common.provenance import FIELDS as WHERE
from benchmarks.common.provenance import provenance
from benchmarks.common.worker_process import WorkerFailed, WorkerProcess
from benchmarks.gpu.cases import PEERS, SUBJECTS, all_cases, quick_cases
from benchmarks.gpu.errors import TOLERANCES
from benchmarks.gpu.programs import Programs
from benchmarks.gpu.report import summary

ROWS = pathlib.Path(__file__).with_name("results.csv")
PACKAGES = "jax", "jaxlib", "torch", "triton", "numpy", "liger-kernel"
PACKAGES += ("cut-cross-entropy",)
FIGURES = (
    "status ms executions memory_mib compile_s loss_error gradient_error "
    "tensorflow_error"
).split()
CASE = "subject rows extra width dtype collisions row_block".split()
FIELDS = [*CASE, *FIGURES, "corrections", "why", "programs", *WHERE]

# What need not be run again.
_SETTLED = "ok", "out of memory"

# From so many rows on a case's process has the card to itself.
_ALONE = 65_536


class Engines:
    """The two worker processes; one that has ended is started again.

    Args:
      folder: That of the programs.
      deadline: `time.monotonic` when the workers are ended, whatever they do.
    """

    def __init__(self, folder, deadline):
        self._folder, self._deadline = folder, deadline
        self._workers = {}

    def ask(self, engine, case, **how):
        """What the engine's worker answers, a dict with a status."""
        try:
            worker = self._worker(engine)
        except WorkerFailed as error:
            return {"status": "not installed", "why": str(error)[-300:]}
        left = max(self._deadline - time.monotonic(), 1)
        timer = threading.Timer(left, worker.close)
        timer.start()
        try:
            return worker.ask(json.dumps({"case": case.to_json(), **how}))
        except (WorkerFailed, ValueError, OSError) as error:
            self._workers.pop(engine).close()
            if time.monotonic() >= self._deadline:
                return {"status": "no time"}
            # The system ends what takes all of its memory.
            return {"status": "failed", "why": str(error)[-300:]}
        finally:
            timer.cancel()

    def close(self, *engines):
        """Ends these workers, or all; the card's memory is free again."""
        for engine in engines or [*self._workers]:
            if worker := self._workers.pop(engine, None):
                worker.close()

    def _worker(self, engine):
        if engine not in self._workers:
            module = f"benchmarks.gpu.{engine}_worker"
            worker = WorkerProcess(module, self._folder)
            worker.read()
            self._workers[engine] = worker
        return self._workers[engine]


def measure(cases, engines, seconds, num_sets, deadline):
    """Rows of cases, one after the other, as long as there is time."""
    with tempfile.TemporaryDirectory(prefix="references_") as folder:
        references = {}
        for place, case in enumerate(cases):
            if time.monotonic() >= deadline:
                print(f"no time for {len(cases) - place} more cases", flush=True)
                return
            reference = _reference(case, engines, references, folder)
            if case.problem.rows >= _ALONE:
                # The card's memory is this case's alone.
                engines.close(*{"xla", "torch"} - {case.engine})
            found = engines.ask(
                case.engine,
                case,
                num_sets=num_sets,
                seconds=seconds,
                references=reference,
            )
            if found["status"] == "no time":
                continue
            yield case, found


def _reference(case, engines, references, folder):
    """The file of what a case should give, or None where PyTorch cannot tell."""
    rounded = case.dtype == "bfloat16"
    key = SUBJECTS[case.subject].computes, case.problem, rounded
    if key not in references:
        # One that failed is tried again for the next case.
        path = f"{folder}/{len(references)}.npz"
        answer = engines.ask(
            "torch", case, num_sets=1, seconds=0, references=path, write=True
        )
        if answer["status"] != "ok":
            print(f"  no reference: {answer}", flush=True)
            return None
        references[key] = path
    return references[key]


def row_of(case, found):
    """The row of a case, from what its worker answered."""
    status = found["status"]
    errors = [found.get("loss_error"), found.get("gradient_error")]
    # Peers that add up in bfloat16 are timed all the same, their errors beside.
    theirs = case.engine == "torch" and case.dtype == "bfloat16"
    # Neither is one that is not a number.
    checked = [] if theirs else [*errors]
    if case.dtype == "float32":
        checked.append(found.get("tensorflow_error"))
    if status == "ok":
        if any(e is not None and not e <= TOLERANCES[case.dtype] for e in checked):
            status = "differs"
        elif errors == [None, None]:
            status = "unchecked"
    row = {name: found.get(name) for name in FIGURES}
    for name in ("ms", "memory_mib", "compile_s"):
        row[name] = None if row[name] is None else round(row[name], 4)
    for name in ("loss_error", "gradient_error", "tensorflow_error"):
        row[name] = None if row[name] is None else f"{row[name]:.1e}"
    why = " ".join(found.get("why", "").split())
    corrections = SUBJECTS[case.subject].corrections
    return {
        **case.columns,
        **row,
        "status": status,
        "corrections": corrections,
        "why": why,
    }


def settled(rows, about):
    """The columns of cases that need not be run again, as tuples of strings.

    Args:
      rows: Those of the CSV.
      about: Dict of what is run now: "programs", "device" and others.
    """
    return {
        tuple(row[name] for name in CASE)
        for row in rows
        if row["status"] in _SETTLED
        and all(row[name] == about[name] for name in ("programs", "device"))
    }


def card():
    """The name of this machine's first NVIDIA GPU, as the driver says, or "cpu"."""
    if shutil.which("nvidia-smi") is None:
        return "cpu"
    names = subprocess.run(
        ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"],
        capture_output=True,
        text=True,
        check=False,
    ).stdout.splitlines()
    return names[0].strip() if names else "cpu"


def main():
    parser = command_line.parser(__doc__, ROWS)
    parser.add_argument(
        "--programs", type=pathlib.Path, required=True, help="folder of `export`"
    )
    parser.add_argument(
        "--seconds", type=float, default=450, help="for all cases together"
    )
    parser.add_argument("--case-seconds", type=float, default=0.5)
    parser.add_argument("--subjects", nargs="+", choices=SUBJECTS, default=[*SUBJECTS])
    arguments = command_line.parse(parser, case_seconds=0.05)
    deadline = time.monotonic() + arguments.seconds
    programs = Programs.read(arguments.programs)
    about = provenance(PACKAGES)
    about["programs"] = f"{programs.about['versions']} at {programs.about['commit']}"
    # The card's name, before the processor's.
    processor, ours = about["device"], card()
    about["device"] = f"{ours}; {processor}"
    done = settled(csv_rows.read(arguments.output), about)
    cases = [
        case
        for case in (quick_cases() if arguments.quick else all_cases())
        if case.subject in arguments.subjects
        and tuple(map(str, case.columns.values())) not in done
        and (case.engine != "xla" or programs.path(case.program).exists())
    ]
    print(f"{len(cases)} cases, {len(done)} are there already", flush=True)
    engines = Engines(arguments.programs.resolve(), deadline)
    steps = measure(cases, engines, arguments.case_seconds, 3, deadline)
    try:
        for case, found in steps:
            row = {**row_of(case, found), **about}
            # A library that does not see the card ran on something else.
            row["device"] = f"{found.get('device', ours)}; {processor}"
            csv_rows.append(arguments.output, FIELDS, row)
            csv_rows.show(row, [*CASE, *FIGURES])
            if row["status"] in ("failed", "differs") and case.subject not in PEERS:
                print(f"  {row['why']}", flush=True)
    finally:
        engines.close()
    print(summary(csv_rows.read(arguments.output)))


if __name__ == "__main__":
    main()
