"""Runs workers and writes what they say to a CSV, leaving out what it holds."""

import json
import os
import pathlib
import subprocess
import sys

import results
from tables import NAMES

HERE = pathlib.Path(__file__).parent
sys.path.append(str(HERE.parent))

from provenance import provenance  # noqa: E402


def add_arguments(parser):
    """The arguments that run.py and tune.py share."""
    parser.add_argument("table", choices=NAMES)
    parser.add_argument("--data", help="folder of the data sets")
    parser.add_argument("--sets", nargs="+", help="only these data sets of the table")


def use_folder(arguments):
    """Lets workers find the data sets."""
    if arguments.data:
        os.environ["TFRS_NEGATIVES_DATA"] = str(pathlib.Path(arguments.data).resolve())


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
    done = {results.key(row)[:2] + results.key(row)[3:] for row in results.read(path)}
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
        command = [sys.executable, str(HERE / "worker.py"), json.dumps(job)]
        # All or nothing: a run with some of its variants would count as done.
        try:
            rows = [json.loads(line) for line in start(command, environment)]
        except subprocess.CalledProcessError as error:
            print(f"  failed with exit code {error.returncode}", flush=True)
            failed += 1
            continue
        where = provenance(subject.packages)
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
