"""Rows and candidates that repeat embeddings, as the task is given them."""

import tensorflow as tf

from tfrs_negatives import _checks, distribute
from tfrs_negatives._gather_rows import gather_rows
from tfrs_negatives.losses import repeats
from tfrs_negatives.losses.inputs import check_distinct
from tfrs_negatives.tasks.keys import KnownPositives, row_keys, vector


class Repeats:
    """Which embeddings the rows and candidates of a batch use.

    Args:
      query_embeddings: [U, d] or [U, H, d].
      candidate_embeddings: [V, d].
      query_rows: [B] integers in [0, U); None: 0, 1, ... U - 1.
      candidate_rows: [C] integers in [0, V), C >= B; None: 0, 1, ... V - 1.

    Raises:
      ValueError: Ranks, widths, dtypes that do not fit; C < B.
      tf.errors.InvalidArgumentError: The same where only values tell; numbers out of
        range.
    """

    def __init__(
        self, query_embeddings, candidate_embeddings, query_rows, candidate_rows
    ):
        self.queries, self.candidates = check_distinct(
            query_embeddings, candidate_embeddings
        )
        self.query_rows = _rows("query_rows", query_rows, self.queries)
        self.candidate_rows = _rows("candidate_rows", candidate_rows, self.candidates)
        self.num_rows = _checks.size(self.query_rows)
        self.num_columns = _checks.size(self.candidate_rows)

    def expanded(self):
        """Embeddings of queries [B, ...] and candidates [C, d], float32 at least."""
        return (
            gather_rows(self.queries, self.query_rows),
            gather_rows(self.candidates, self.candidate_rows),
        )

    def groups(self, query_keys, query_key_mask, known_positive_ids, candidate_ids):
        """`losses.repeats.Groups` of rows that no rule tells apart."""
        respects = []
        for keys in row_keys(query_keys, query_key_mask, self.num_rows).values():
            respects += keys.respects()
        if known_positive_ids is not None:
            known = KnownPositives(known_positive_ids, candidate_ids, self.num_rows)
            respects.append(known.identities(self.num_rows))
        return repeats.Groups(self.query_rows, *respects)

    def queries_of(self, groups):
        """[G, d], the query of each group."""
        return gather_rows(self.queries, tf.gather(self.query_rows, groups.first))

    def of_columns(self, columns, entries=None):
        """The embeddings that the columns use, and which each uses.

        Args:
          columns: `tasks.columns.Columns`.
          entries: The memory's, or None.

        Returns:
          [V', d] and [num_columns] int32.
        """
        candidates, rows = self.candidates, self.candidate_rows
        if columns.are_global:
            begin, _ = distribute.rows_before(_checks.size(candidates))
            candidates, rows = columns.everyones(candidates), columns.of(rows + begin)
        if entries is not None:
            behind = tf.shape(candidates)[0] + tf.range(tf.size(entries.ids))
            if candidates.dtype != tf.float64:
                candidates = tf.cast(candidates, tf.float32)
            recalled = tf.cast(entries.embeddings, candidates.dtype)
            candidates = tf.concat([candidates, recalled], axis=0)
            own = columns.num_positives
            rows = tf.concat([rows[:own], behind, rows[own:]], axis=0)
        return candidates, rows


def distinct_columns(places, ids=None, log_q=None):
    """`losses.repeats.Groups` of columns that nothing tells apart.

    Args:
      places: [C] int32, the embedding of each column.
      ids: `Keys` [C] or None.
      log_q: [C] or None.
    """
    respects = [places]
    if ids is not None:
        respects += ids.respects()
    if log_q is not None:
        kind = tf.int64 if log_q.dtype == tf.float64 else tf.int32
        respects.append(tf.bitcast(log_q, kind))
    return repeats.Groups(*respects)


def _rows(name, rows, embeddings):
    """[n] int32, checked to be numbers of rows of the embeddings."""
    num_embeddings = _checks.size(embeddings)
    if rows is None:
        return tf.range(num_embeddings)
    rows = vector(name, rows)
    if not rows.dtype.is_integer:
        raise ValueError(
            f"`{name}` must be integers, the row of the embeddings that each uses; "
            f"received {rows.dtype.name}."
        )
    rows = tf.cast(rows, tf.int32)
    message = (
        f"`{name}` must be numbers of rows of the embeddings, from 0 to one less than "
        "there are. Received the rows and their number:"
    )
    is_row = tf.reduce_all((rows >= 0) & (rows < num_embeddings))
    return _checks.guard(
        rows, tf.debugging.Assert(is_row, [message, rows, num_embeddings])
    )
