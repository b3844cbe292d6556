"""CSV files of training runs, one row a run, and settings chosen by them."""

import csv
import json
import pathlib

from evaluate import MEASURES

HERE = pathlib.Path(__file__).parent
KEYS = ["data", "subject", "variant", "setting", "seed"]
COSTS = ["seconds", "cpu_seconds", "peak_mib"]
WHERE = ["device", "versions", "commit"]
FIELDS = [*KEYS, *MEASURES, *COSTS, "others", *WHERE]


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
    """What tells training runs apart; each has a row for every variant."""
    return tuple(str(row[name]) for name in KEYS if name != "variant")


def as_text(setting):
    """A setting as the CSV has it; equal settings give equal texts."""
    return json.dumps(setting, sort_keys=True)


def trials(table, data, subject, settings):
    """Rows of the search log, one for each of these settings, texts, that it has."""
    done = {
        row["setting"]: row
        for row in read(search_file(table))
        if (row["data"], row["subject"]) == (data, subject)
    }
    return [done[setting] for setting in settings if setting in done]
