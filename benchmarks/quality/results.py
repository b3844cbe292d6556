"""CSV files of training runs, one row a run, and settings chosen by them."""

import json
import pathlib
import sys

from evaluate import MEASURES

HERE = pathlib.Path(__file__).parent
sys.path.append(str(HERE.parent))

import csv_rows  # noqa: E402
from csv_rows import read  # noqa: E402

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


def append(path, row):
    """Adds a row to one of these files."""
    csv_rows.append(path, FIELDS, row)


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
