"""The runs that recovery.py reports: those at the rate that validation chose."""

BATCH = 128
EPOCHS = {
    "diginetica": 6,
    "online_retail": 6,
    "online_retail_users": 6,
    "movielens": 10,
}


def chosen(rows, **cell):
    """Runs of a cell at the rate of the best validation recall of its first seed.

    Args:
      rows: The table's rows, dicts of strings.
      **cell: What "data", "epochs", "batch", "order" and "task" are.
    """
    runs = [row for row in rows if cell.items() <= row.items()]
    first = [r for r in runs if int(r["seed"]) == min(int(r["seed"]) for r in runs)]
    if not first:
        return []
    best = max(first, key=lambda row: float(row["validation_recall_at_20"]))
    return [row for row in runs if row["rate"] == best["rate"]]
