"""The whole catalogue as columns: training against all items, exactly."""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import tensorflow as tf

from tfrs_negatives import _checks
from tfrs_negatives._repr import described
from tfrs_negatives._xla import compiled_by_xla
from tfrs_negatives.samplers.catalogue_log_q import CatalogueLogQ
from tfrs_negatives.samplers.item_corpus import ItemCorpus
from tfrs_negatives.types import CorpusLike, TensorLike

# What the loss holds of each item beside embeddings: a block of 112 rows' scores in
# float32, their derivatives, and what is on the way from one to the other.
_BYTES_AN_ITEM = 112 * 4 * 3


class CatalogueColumns(NamedTuple):
    """What a task is given of the columns of a batch and the catalogue.

    Attributes:
      features: The catalogue's, N rows: what the item tower takes.
      rows: [B + N] int32, the task's `candidate_rows`: where the batch's items stand
        among the N, then 0 to N - 1.
      ids: [B + N], the task's `candidate_ids`.
    """

    features: Any
    rows: tf.Tensor
    ids: tf.Tensor


class Catalogue:
    """All N items as columns of every batch: the softmax over the catalogue, exactly.

    Nothing is drawn. With `positive="negatives"`, `remove_accidental_hits=True` and
    `log_q` as its `sampling_correction`, a task's loss is

        log sum_v exp s(i, v)  -  s(i, positive of i),

    the sum over every item v of the catalogue once, less those that rules on ids drop
    for row i; and so are its gradients. With `positive="outside"` the sum is over all
    items but the positive, and weighs `negative_weight`.

    ```python
    catalogue = samplers.Catalogue(item_ids)
    task = tasks.Retrieval(
        positive="negatives",
        remove_accidental_hits=True,
        sampling_correction=catalogue.log_q,
    )
    # in compute_loss:
    columns = catalogue.columns(features["item"])
    task(
        user_tower(features["user"]),
        item_tower(columns.features),
        candidate_rows=columns.rows,
        candidate_ids=columns.ids,
        training=training,
    )
    ```

    Each item passes the tower once a step. With the users given once each too
    (`query_rows`, from `layers.OncePerKey.distinct`) a step costs distinct users times
    items; rows of one user are groups only where nothing needs the scores of single
    rows (see `tasks.Retrieval`).

    Why these options? If n rows of the batch have the same item, it stands in n + 1
    columns, theirs and the catalogue's own. log q = log(n + 1) gives each of them a
    share of 1 / (n + 1), so the item counts once in the sums of other rows. In the sum
    of its own row the positive must count once and whole. `remove_accidental_hits`
    drops its copies there, and `positive="negatives"` leaves the remaining column
    uncorrected. With "all" it would count only 1 / (n + 1).

    Rules on ids (`known_positive_ids`, `mask_shared_positives`) drop all columns of an
    item. `query_keys` alone would drop the columns that came with a user's rows and
    leave the catalogue's, so the task wants `mask_shared_positives` with them.

    Every replica of a `tf.distribute` strategy has all items already: leave
    `global_negatives` False, and N replicas compute what one does.

    Args:
      corpus: The items' features, one row an item, as `samplers.Sampler` takes them.
      id_feature: Which feature of a dict holds the items' distinct ids. None: the
        corpus itself if it is a vector of integers or strings, else an item's id is its
        row number.
      max_bytes: The most that the scores of a step may take, beside what embeddings
        do: about 1,344 bytes an item, as the loss scores blocks of 112 rows at least.
        None: no limit, such as where the task has a smaller `row_block`.

    Attributes:
      num_items: N.
      log_q: A layer for the task's `sampling_correction`. It gives the log of how many
        columns hold the item: not a probability, for the sum over columns is to be the
        sum over items, not its mean.

    Raises:
      ValueError: As `samplers.Uniform`: no items, ids that repeat; more items than
        `max_bytes` has room for.

    Example:
      >>> catalogue = tn.samplers.Catalogue(["tea", "milk", "jam"])
      >>> columns = catalogue.columns(tf.constant(["jam"]))  # A batch of one row.
      >>> columns.ids.numpy().tolist()
      [b'jam', b'tea', b'milk', b'jam']
      >>> columns.rows.numpy().tolist()
      [2, 0, 1, 2]
    """

    def __init__(
        self,
        corpus: CorpusLike | ItemCorpus,
        *,
        id_feature: str | None = None,
        max_bytes: int | None = 2**31,
    ) -> None:
        if max_bytes is not None:
            _checks.check_at_least("max_bytes", max_bytes, 1)
        self._corpus = (
            corpus if isinstance(corpus, ItemCorpus) else ItemCorpus(corpus, id_feature)
        )
        self.num_items = self._corpus.num_items
        self.max_bytes = max_bytes
        needed = self.num_items * _BYTES_AN_ITEM
        if max_bytes is not None and needed > max_bytes:
            raise ValueError(
                f"A step against a catalogue of {self.num_items} items needs about "
                f"{needed} bytes for scores: expected at most `max_bytes`, "
                f"{max_bytes}, which is {max_bytes // _BYTES_AN_ITEM} items. Raise it, "
                "or draw negatives: `samplers.Uniform`."
            )

    def __repr__(self) -> str:
        return described(self, num_items=self.num_items, max_bytes=self.max_bytes)

    @functools.cached_property
    def log_q(self) -> CatalogueLogQ:
        """The log of how many columns hold an item, a `sampling_correction`."""
        return CatalogueLogQ(self.num_items)

    def columns(self, ids: TensorLike) -> CatalogueColumns:
        """What a task is to be given: the batch's positives, then every item.

        Args:
          ids: [B], the items of the batch's rows, each of the catalogue.

        Raises:
          ValueError: Ids of another rank; strings for integers, or the reverse.
          tf.errors.InvalidArgumentError: An id that the catalogue lacks (XLA cannot
            raise).
        """
        ids = _checks.dense("ids", ids)
        _checks.check_rank("ids", ids, (1,), "Pass one item for each row.")
        places = self._corpus.lookup("ids", ids)
        if not compiled_by_xla():
            unknown = tf.boolean_mask(ids, places >= self.num_items)
            message = (
                "`ids` must be of the catalogue, which is all that there is to choose "
                "from. Add these items to it, or leave their rows out. Received:"
            )
            is_known = tf.equal(tf.size(unknown), 0)
            places = _checks.guard(
                places, tf.debugging.Assert(is_known, [message, unknown])
            )
        every = self._corpus.ids
        if every is None:
            every = tf.range(self.num_items, dtype=tf.int64)
        if ids.dtype != tf.string:
            # The wider dtype holds both.
            ids, every = tf.cast(ids, tf.int64), tf.cast(every, tf.int64)
        places = tf.cast(places, tf.int32)
        return CatalogueColumns(
            self._corpus.features,
            tf.concat([places, tf.range(self.num_items)], axis=0),
            tf.concat([ids, every], axis=0),
        )
