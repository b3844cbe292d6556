"""Rows of a benchmark's CSV, each written when its run ends."""

import csv


def read(path):
    """Rows of a CSV, a list of dicts of strings; empty where there is none."""
    if not path.exists():
        return []
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def append(path, fields, row):
    """Adds a row at once, so that a runner that is cut loses nothing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    is_new = not path.exists()
    with open(path, "a", newline="") as file:
        writer = csv.DictWriter(file, fields)
        if is_new:
            writer.writeheader()
        writer.writerow(row)
