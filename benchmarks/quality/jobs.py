"""Runs workers and writes what they say to a CSV, leaving out what it holds."""

import json
import os
import pathlib
import subprocess
import sys

import results
import tables

HERE = pathlib.Path(__file__).parent
sys.path.append(str(HERE.parent))

from provenance import provenance  # noqa: E402


def add_arguments(parser):
    """The arguments that run.py and tune.py share, beside the subjects."""
    parser.add_argument("table", choices=tables.NAMES)
    parser.add_argument("--data", help="folder of the data sets")
    parser.add_argument("--sets", nargs="+", help="only these data sets of the table")


def parse(parser):
    """Parses these arguments, and lets workers find the data sets.

    Returns:
      The table, and the arguments with all of its `sets` and `subjects` where none are
      named.
    """
    arguments = parser.parse_args()
    table = tables.load(arguments.table)
    for name, known in (("sets", table.data), ("subjects", table.subjects)):
        named = getattr(arguments, name) or list(known)
        unknown = [each for each in named if each not in known]
        if unknown:
            parser.error(f"{unknown} are no {name} of this table: it has {list(known)}")
        setattr(arguments, name, named)
    if arguments.data:
        os.environ["TFRS_NEGATIVES_DATA"] = str(pathlib.Path(arguments.data).resolve())
    return table, arguments


def run_all(jobs, path, start=None):
    """Runs jobs one after the other, but for those whose rows are in the file.

    Args:
      jobs: List of (data, name, subject, setting, seed, validation), the setting as
        text.
      path: Of the CSV.
      start: Function of a command and environment to the lines that it prints.

    Returns:
      How many jobs failed.
    """
    start = start or _lines_of
    done = {results.key(row) for row in results.read(path)}
    failed = 0
    for place, (data, name, subject, setting, seed, validation) in enumerate(jobs):
        about = f"{place + 1} of {len(jobs)}: {data}, {name}, seed {seed}"
        if (data, name, setting, str(seed)) in done:
            print(f"{about}: done already", flush=True)
            continue
        print(f"{about}, {setting}", flush=True)
        job = {
            "module": subject.module,
            "setting": json.loads(setting),
            "data": data,
            "seed": seed,
            "validation": validation,
        }
        environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
        if subject.keras:
            environment["TF_USE_LEGACY_KERAS"] = "1" if subject.keras == 2 else "0"
        # Before it runs: commits may come meanwhile.
        where = provenance(subject.packages)
        command = [sys.executable, str(HERE / "worker.py"), json.dumps(job)]
        # All or nothing: a run with some of its variants would count as done.
        try:
            rows = [json.loads(line) for line in start(command, environment)]
        except subprocess.CalledProcessError as error:
            print(f"  failed with exit code {error.returncode}", flush=True)
            failed += 1
            continue
        keys = {"data": data, "subject": name, "setting": setting, "seed": seed}
        for row in rows:
            results.append(path, {**keys, **row, **where})
            figures = (results.MEASURES[:2], results.COSTS)
            print("  " + row["variant"], *(row[f] for fs in figures for f in fs))
    return failed


def _lines_of(command, environment):
    process = subprocess.run(
        command, env=environment, stdout=subprocess.PIPE, text=True, check=True
    )
    return process.stdout.splitlines()
