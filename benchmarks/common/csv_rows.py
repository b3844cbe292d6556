"""Rows of a benchmark's CSV."""

import csv


def read(path):
    """Rows of a CSV, a list of dicts of strings; empty where there is none."""
    if not path.exists():
        return []
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def append(path, fields, row):
    """Adds a row at once, so that a runner that is cut loses nothing.

    Raises:
      ValueError: The CSV has other columns.
    """
    if not path.exists():
        write(path, fields, [])
    with open(path, newline="") as file:
        header = next(csv.reader(file))
    if header != list(fields):
        raise ValueError(
            f"{path} has the columns {header}, expected {list(fields)}: write to "
            "another file."
        )
    with open(path, "a", newline="") as file:
        csv.DictWriter(file, fields).writerow(row)


def write(path, fields, rows):
    """Writes all rows, in place of what the CSV had."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w", newline="") as file:
        writer = csv.DictWriter(file, fields)
        writer.writeheader()
        writer.writerows(rows)


def show(row, fields=None):
    """Prints a row, or these fields of it, on a line."""
    print("  ".join(f"{key} {row[key]}" for key in fields or row), flush=True)
