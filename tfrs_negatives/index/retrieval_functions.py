"""The functions of an exported retrieval, and all that they read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import tensorflow as tf

from tfrs_negatives.index.excluded_histories import ExcludedHistories
from tfrs_negatives.index.popularity_dial import PopularityDial, checked_discounts
from tfrs_negatives.index.row_options import assert_that, per_row
from tfrs_negatives.index.saved_functions import ExportedTower, variables_of
from tfrs_negatives.index.scann_searcher import ScannSearcher
from tfrs_negatives.index.searcher import Searcher
from tfrs_negatives.types import Features, Tower


class RetrievalFunctions:
    """From raw features to candidates, as traced functions of keyword tensors.

    Args:
      tower: Function from a dict of features to embeddings `[B, d]`.
      searcher: Of candidates `[N, d]`, or `[N, d + 1]` that `dial` made of them.
      features: Dict from name to `tf.TensorSpec`.
      columns: The payload, a dict from name to tensor.
      dial: `PopularityDial`, or None: queries have no say in popularity.
      histories: `ExcludedHistories`, or None: nothing is left out by itself.
      history_items: Which feature has ids of items that are left out too, or None.

    Attributes:
      signatures: Dict from name to concrete function.
      module: `tf.Module` that tracks all that they read.
    """

    def __init__(
        self,
        tower: Tower,
        searcher: Searcher,
        features: dict[str, tf.TensorSpec],
        columns: Mapping[str, tf.Tensor],
        dial: PopularityDial | None = None,
        histories: ExcludedHistories | None = None,
        history_items: str | None = None,
    ) -> None:
        self._embed = ExportedTower(tower, features)
        self._searcher, self._features = searcher, features
        self._dial, self._histories = dial, histories
        self._history_items = history_items
        self.module = module = tf.Module()
        module.searcher, module.histories = searcher, histories
        self._payload = module.payload = {
            name: tf.Variable(column, trainable=False, name=name)
            for name, column in columns.items()
        }
        with searcher.traced_for_export():
            self.signatures = self._traced()
            # Traced here, since another trace would name another resource.
            release = tf.function(lambda: _release(searcher))
            module.release = release.get_concrete_function()
        module.weights = variables_of(self.signatures)

    def _traced(self) -> dict[str, Any]:
        @tf.function(autograph=False)
        def serve(**inputs: tf.Tensor) -> dict[str, tf.Tensor]:
            return self._answer(inputs)

        ids = self._searcher.identifiers.dtype
        options = {"k": tf.TensorSpec([], tf.int32, name="k")}
        if self._dial is not None:
            options["popularity_discount"] = tf.TensorSpec(
                [None], tf.float32, name="popularity_discount"
            )
        if self._histories is not None or self._history_items is not None:
            options["exclude_history"] = tf.TensorSpec(
                [None], tf.bool, name="exclude_history"
            )
        exclusions = tf.TensorSpec([None, None], ids, name="exclusions")
        inputs = {**self._features, **options}
        return {
            "serving_default": serve.get_concrete_function(**inputs),
            "with_exclusions": serve.get_concrete_function(
                **inputs, exclusions=exclusions
            ),
            "embed_query": self._embed.signature(self._features),
        }

    def _answer(self, inputs: Features) -> dict[str, tf.Tensor]:
        queries = self._embed(inputs)
        excluded = self._excluded(inputs, tf.shape(queries)[0])
        if self._dial is None:
            found = self._searcher.retrieve(queries, inputs["k"], excluded)
            return self._outputs(*found)
        discounts = checked_discounts(inputs["popularity_discount"])
        discounts = per_row("popularity_discount", discounts, tf.shape(queries)[0])
        queries = self._dial.queries(queries, discounts)
        scores, positions = self._searcher.retrieve(queries, inputs["k"], excluded)
        return self._outputs(self._dial.scores(scores, discounts), positions)

    def _excluded(self, inputs: Features, num_rows: tf.Tensor) -> tf.Tensor | None:
        """Rows `[B, E]` of the candidates to leave out, -1 for none."""
        ids, parts = self._searcher.identifiers, []
        if "exclude_history" in inputs:
            wanted = per_row("exclude_history", inputs["exclude_history"], num_rows)
            if self._histories is not None:
                users = inputs[self._histories.feature]
                parts.append(self._histories.positions(users, wanted))
            if self._history_items is not None:
                items = inputs[self._history_items]
                history = ids.positions_of_exclusions(items)
                # One row may stand for all.
                history = tf.where(wanted[:, tf.newaxis], history, -1)
                parts.append(history)
        if "exclusions" in inputs:
            excluded = ids.positions_of_exclusions(inputs["exclusions"])
            same = tf.equal(tf.shape(excluded)[0], num_rows)
            check = assert_that(same, "`exclusions` must have one row per query.")
            with tf.control_dependencies([check]):
                parts.append(tf.identity(excluded))
        if len(parts) < 2:
            return parts[0] if parts else None
        return tf.concat(parts, axis=1)

    def _outputs(self, scores: tf.Tensor, positions: tf.Tensor) -> dict[str, tf.Tensor]:
        found = positions >= 0
        ids = self._searcher.identifiers.gather(positions)
        outputs = {"ids": ids, "scores": scores}
        for name, column in self._payload.items():
            values = tf.gather(column, tf.maximum(positions, 0))
            shape = tf.concat(
                [tf.shape(found), tf.ones([values.shape.rank - 2], tf.int32)], axis=0
            )
            empty = tf.zeros([], values.dtype)
            outputs[name] = tf.where(tf.reshape(found, shape), values, empty)
        return outputs


def _release(searcher: Searcher) -> None:
    """Destroys what ScaNN keeps in the process, which outlives the loaded model."""
    if isinstance(searcher, ScannSearcher):
        handle = searcher._make_resource()
        tf.raw_ops.DestroyResourceOp(resource=handle, ignore_lookup_error=True)
