"""CSV files of training runs, one row a run, and settings chosen by them."""

import csv
import json
import pathlib

from evaluate import MEASURES

HERE = pathlib.Path(__file__).parent
KEYS = ["data", "subject", "variant", "setting", "seed"]
COSTS = ["seconds", "cpu_seconds", "peak_mib"]
FIELDS = [*KEYS, *MEASURES, *COSTS, "notes", "device", "versions", "commit"]


def runs_file(table):
    """Figures of the held-out interactions."""
    return HERE / "runs" / f"{table}.csv"


def search_file(table):
    """The log of the search: figures of validation interactions, a row a trial."""
    return HERE / "searches" / f"{table}.csv"


def read(path):
    """Rows of a CSV, a list of dicts of strings; empty where there is none."""
    if not path.exists():
        return []
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def append(path, row):
    """Adds a row at once, so that a runner that is cut loses nothing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    is_new = not path.exists()
    with open(path, "a", newline="") as file:
        writer = csv.DictWriter(file, FIELDS)
        if is_new:
            writer.writeheader()
        writer.writerow(row)


def key(row):
    """What tells runs apart."""
    return tuple(str(row[name]) for name in KEYS)


def as_text(setting):
    """A setting as the CSV has it; equal settings give equal texts."""
    return json.dumps(setting, sort_keys=True)


def best_trial(table, data, subject):
    """The trial of the highest validation recall, or None; and how many there were."""
    trials = [
        row
        for row in read(search_file(table))
        if (row["data"], row["subject"]) == (data, subject)
    ]
    best = max(trials, key=lambda row: float(row["recall_at_20"]), default=None)
    return best, len(trials)
