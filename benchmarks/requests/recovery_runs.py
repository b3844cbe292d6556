"""The runs that recovery.py reports: those at the rate that validation chose."""

import pathlib
import statistics

ROWS = pathlib.Path(__file__).with_name("recovery.csv")
BATCH = 128
EPOCHS = {
    "diginetica": 6,
    "online_retail": 6,
    "online_retail_users": 6,
    "movielens": 10,
}


def by_rate(rows):
    """From each rate, as text, to its runs, a list of rows."""
    found = {}
    for row in rows:
        found.setdefault(row["rate"], []).append(row)
    return found


def chosen(rows, **cell):
    """Runs of a cell at the rate of the best validation recall, mean over seeds.

    Args:
      rows: The table's rows, dicts of strings.
      **cell: What "data", "epochs", "batch", "order" and "task" are.
    """
    rates = by_rate(row for row in rows if cell.items() <= row.items()).values()
    # A rate that some seeds have yet to train at cannot be compared.
    seeds = max(map(len, rates), default=0)
    return max(
        (runs for runs in rates if len(runs) == seeds),
        key=lambda runs: statistics.mean(
            float(row["validation_recall_at_20"]) for row in runs
        ),
        default=[],
    )
