"""Which items are a negative of some row in an epoch of in-batch negatives."""

from __future__ import annotations

import numpy as np

from tfrs_negatives.audit.audit_table import AuditTable
from tfrs_negatives.audit.positive_pairs import PositivePairs


def items_seen(
    order: np.ndarray,
    batch_size: int,
    table: AuditTable,
    known: PositivePairs,
    wanted: np.ndarray,
) -> np.ndarray:
    """Marks the items that are a negative, after all masks, at least once.

    A column is a negative of another row of its batch if its item is no known
    positive of the row's user, and it did not come with the row's request. For most
    items the nearest row of another user in the batch of their first column tells;
    all rows of all their batches are looked at for the others only.

    Args:
      order: [n] row numbers of the epoch.
      batch_size: Rows in a batch; the last may have fewer.
      table: `AuditTable`.
      known: Its `PositivePairs`.
      wanted: [N] bool, the items to look at.

    Returns:
      [N] bool: the wanted items that were seen.
    """
    columns = np.flatnonzero(wanted[table.item[order]])
    items = table.item[order[columns]]
    partner = _other_user(order, columns, batch_size, table.user)
    columns, items = columns[partner >= 0], items[partner >= 0]
    partner = partner[partner >= 0]
    seen = np.zeros(len(wanted), bool)
    # A first look at one column of each item.
    first = np.unique(items, return_index=True)[1]
    seen[items[first]] = _is_negative(
        order[columns[first]], order[partner[first]], table, known
    )
    left = ~seen[items]
    columns, items = columns[left], items[left]
    batch, position = columns // batch_size, np.arange(len(columns))
    for number in np.unique(batch):
        rows = order[number * batch_size : (number + 1) * batch_size]
        for place in position[slice(*np.searchsorted(batch, [number, number + 1]))]:
            if not seen[items[place]]:
                column = np.full(len(rows), order[columns[place]])
                seen[items[place]] = _is_negative(column, rows, table, known).any()
    return seen


def _is_negative(
    column: np.ndarray, row: np.ndarray, table: AuditTable, known: PositivePairs
) -> np.ndarray:
    """Whether rows' columns are negatives of other rows, elementwise."""
    others = table.request[column] != table.request[row]
    return others & ~known.contain(table.user[row], table.item[column])


def _other_user(
    order: np.ndarray, columns: np.ndarray, batch_size: int, user: np.ndarray
) -> np.ndarray:
    """The place of the nearest row of another user in the batch; -1: it has none."""
    users = user[order]
    starts = np.flatnonzero(np.append(True, users[1:] != users[:-1]))
    run = np.searchsorted(starts, columns, side="right") - 1
    after = np.append(starts, len(order))[run + 1]
    before = starts[run] - 1
    first = columns - columns % batch_size
    last = np.minimum(first + batch_size, len(order))
    return np.where(after < last, after, np.where(before >= first, before, -1))
