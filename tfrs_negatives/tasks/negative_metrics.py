"""What some rows of a batch are trained against, handed to metrics of negatives."""

from __future__ import annotations

import tensorflow as tf

from tfrs_negatives import _checks
from tfrs_negatives.losses import dropped_pairs, rules, soft_targets
from tfrs_negatives.losses.in_place import set_each
from tfrs_negatives.losses.row_blocks import AllRows, ChosenRows
from tfrs_negatives.losses.sampled_loss import SampledLoss
from tfrs_negatives.losses.scoring import Scoring
from tfrs_negatives.metrics.negatives import Negatives
from tfrs_negatives.tasks import masks
from tfrs_negatives.tasks.batch import Batch
from tfrs_negatives.tasks.columns import Columns
from tfrs_negatives.tasks.observed_rows import ObservedRows
from tfrs_negatives.tasks.row_negatives import RowNegatives


def update(
    observed: ObservedRows,
    batch: Batch,
    columns: Columns,
    scoring: Scoring,
    loss: SampledLoss,
) -> None:
    """Updates the metrics that observe a batch."""
    allowed, kept, mass = loss.negatives_of(observed.rows, scoring)
    num_shared = _checks.size(scoring.candidates)
    num_own = tf.shape(kept)[1] - num_shared
    if batch.targets is not None and batch.targets.embeddings is not None:
        # What targets brought is behind the negatives.
        num_own -= _checks.size(batch.targets.embeddings, 1)
        width = num_shared + num_own
        allowed, kept, mass = (part[:, :width] for part in (allowed, kept, mass))
    row_ids = None
    if observed.compares_ids and batch.negatives is not None:
        row_ids = tf.gather(batch.negatives.item_ids, observed.rows)
    offered = _offered(observed.rows, batch.negatives, num_shared, num_own)
    if scoring.targets is not None:
        # With what targets brought, of which there is no column here.
        width = tf.shape(scoring.targets.columns)[1]
        offered = tf.pad(offered, [[0, 0], [0, width]])
        targets = scoring.targets.of(ChosenRows(observed.rows))
        offered = soft_targets.without(offered, targets)[:, : num_shared + num_own]
    negatives = Negatives(
        offered=offered,
        allowed=allowed,
        kept=kept,
        mass=mass,
        sources=columns.sources(num_own),
        weights=_weights(observed.rows, batch.sample_weight),
        positives=_positives(observed, batch, columns, row_ids, offered),
        column_ids=columns.ids.values if observed.compares_ids else None,
        column_id_mask=columns.ids.mask if observed.compares_ids else None,
        row_ids=row_ids,
        keys=batch.keys,
    )
    for metric in observed.metrics:
        metric.update_state(negatives)


def _offered(
    rows: tf.Tensor,
    negatives: RowNegatives | None,
    num_shared: tf.Tensor,
    num_own: tf.Tensor,
) -> tf.Tensor:
    """[r, size + M] bool, all pairs but the row's positive and what is no negative."""
    shared = tf.ones(tf.stack([tf.size(rows), num_shared]), tf.bool)
    none = tf.zeros_like(rows, tf.bool)
    shared = set_each(shared, rows, none, in_place=False)
    own = tf.ones(tf.stack([tf.size(rows), num_own]), tf.bool)
    if negatives is not None and negatives.mask is not None:
        own &= tf.gather(negatives.mask, rows)
    return tf.concat([shared, own], axis=1)


def _positives(
    observed: ObservedRows,
    batch: Batch,
    columns: Columns,
    row_ids: tf.Tensor | None,
    offered: tf.Tensor,
) -> tf.Tensor | None:
    """[r, size + M] bool, offered pairs whose item is a positive of the row."""
    measured, rows = observed.measured, observed.rows
    if measured is None:
        return None
    own = tf.gather(batch.item_ids, rows)
    positives = dropped_pairs.matches(
        [
            rules.same_key(own, columns.by_item),
            masks.known_positives_of(measured, columns, rows),
        ],
        AllRows(tf.size(rows)),
    )
    if row_ids is not None:
        others = tf.equal(row_ids, own[:, tf.newaxis])
        others |= masks.are_known(measured, row_ids, rows)
        positives = tf.concat([positives, others], axis=1)
    return positives & offered


def _weights(rows: tf.Tensor, sample_weight: tf.Tensor | None) -> tf.Tensor:
    """[r] float32, the rows' weights."""
    if sample_weight is None:
        return tf.ones_like(rows, tf.float32)
    return tf.cast(tf.gather(sample_weight, rows), tf.float32)
