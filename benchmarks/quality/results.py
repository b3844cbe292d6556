"""CSV files of training runs, one row a run, and settings chosen by them."""

import pathlib

from benchmarks.common import csv_rows
from benchmarks.common.csv_rows import read
from benchmarks.common.provenance import FIELDS as WHERE
from benchmarks.quality.evaluate import MEASURES

HERE = pathlib.Path(__file__).parent

KEYS = ["data", "subject", "variant", "setting", "seed"]
COSTS = ["seconds", "cpu_seconds", "peak_mib"]
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


def trials(table, data, subject, settings):
    """Rows of the search log, one for each of these settings, texts, that it has."""
    done = {
        row["setting"]: row
        for row in read(search_file(table))
        if (row["data"], row["subject"]) == (data, subject)
    }
    return [done[setting] for setting in settings if setting in done]
