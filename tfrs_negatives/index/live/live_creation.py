"""The directory of a new live index."""

from __future__ import annotations

import os
import shutil
import uuid
from typing import Any

import numpy as np

from tfrs_negatives._publish import hidden_sibling, publish
from tfrs_negatives.index.live.change_log import ChangeLog
from tfrs_negatives.index.live.live_changes import Upsert
from tfrs_negatives.index.live.live_folder import write_snapshot
from tfrs_negatives.index.live.live_schema import LiveSchema
from tfrs_negatives.index.live.live_table import LiveTable
from tfrs_negatives.types import PathLike


def checked_settings(
    rebuild_share: float,
    approximate_from: int | None,
    soar_lambda: float | None,
) -> dict[str, Any]:
    """The settings of an index, as its manifest has them.

    Raises:
      ValueError: One is out of range.
    """
    if isinstance(rebuild_share, bool) or not 0 < rebuild_share < float("inf"):
        raise ValueError(
            f"`rebuild_share` must be a number above 0, received {rebuild_share!r}."
        )
    if approximate_from is not None and (
        isinstance(approximate_from, bool)
        or not isinstance(approximate_from, int)
        or approximate_from < 0
    ):
        raise ValueError(
            "`approximate_from` must be None or an integer of at least 0, received "
            f"{approximate_from!r}."
        )
    if soar_lambda is not None and (
        isinstance(soar_lambda, bool) or not 0 < soar_lambda < float("inf")
    ):
        raise ValueError(
            f"`soar_lambda` must be None or a number above 0, received {soar_lambda!r}."
        )
    return {
        "rebuild_share": rebuild_share,
        "approximate_from": approximate_from,
        "soar_lambda": soar_lambda,
    }


def write_first(
    path: PathLike, schema: LiveSchema, items: Upsert, settings: dict[str, Any]
) -> uuid.UUID:
    """Writes an index of its first items; the directory appears whole or not at all.

    Args:
      path: A directory that is not there, or is empty.
      schema: The kinds of its columns.
      items: The items, checked.
      settings: What `checked_settings` returned.

    Returns:
      The id of the index.

    Raises:
      ValueError: Something is at `path`.
    """
    path = os.path.realpath(os.fspath(path))
    if os.path.lexists(path) and (not os.path.isdir(path) or os.listdir(path)):
        raise ValueError(
            f"{path!r} must not be there or be an empty directory. Open what is "
            "there with `LiveIndex.open`, or name another path."
        )
    table, index_id = LiveTable.of(schema, items), uuid.uuid4()
    new = hidden_sibling(path)
    os.mkdir(new)
    try:
        ChangeLog.create(new, index_id, 1).close()
        arrays = table.arrays(np.arange(table.num_rows))
        write_snapshot(new, index_id, 0, schema, settings, arrays)
        publish(new, path)
    except BaseException:
        shutil.rmtree(new, ignore_errors=True)
        raise
    return index_id
