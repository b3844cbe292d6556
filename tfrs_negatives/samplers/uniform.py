"""Negatives drawn uniformly from the corpus."""

from __future__ import annotations

import math

import tensorflow as tf

from tfrs_negatives._repr import described
from tfrs_negatives.samplers.inverse_cdf import InverseCDFSampler
from tfrs_negatives.samplers.item_corpus import ItemCorpus
from tfrs_negatives.types import CorpusLike


class Uniform(InverseCDFSampler):
    """Draws every item with probability 1 / N.

    In-batch negatives never show the model an item that has no interactions; these
    do (mixed negative sampling, Yang et al., WWW 2020). Shared by the rows of a batch,
    run their features through the item tower together with the batch's own items:

    ```python
    sampler = Uniform({"item_id": ids, "genre": genres}, id_feature="item_id")
    dataset = sampler.attach(interactions.batch(1024), 1024)
    # in compute_loss:
    items = {k: tf.concat([features[k], v], 0)
             for k, v in features["negatives"].items()}
    task(queries, item_tower(items), candidate_ids=items["item_id"], ...)
    ```

    Correct for the draw with `layers.MixedLogQ([batch_source, sampler.log_q])`.

    Args:
      corpus: The items' features; see `Sampler`.
      id_feature: Which feature of the corpus holds the ids; see `Sampler`.

    Attributes:
      num_items: N.
      log_q: -log N, the log probability of any item in one draw.

    Raises:
      ValueError: An empty corpus, features of unequal length, an unknown
        `id_feature`.

    Reference:
      * Yang et al., "Mixed negative sampling for learning two-tower neural
        networks in recommendations", WWW 2020.

    Example:
      >>> items = {"item": ["tea", "milk", "jam"], "price": [3.0, 1.0, 4.0]}
      >>> sampler = tn.samplers.Uniform(items, id_feature="item")
      >>> rows = tf.data.Dataset.from_tensor_slices({"item": ["tea", "jam"]}).batch(2)
      >>> batch = next(iter(sampler.attach(rows, 5)))
      >>> batch["negatives"]["price"].shape
      TensorShape([5])
      >>> round(float(np.exp(sampler.log_q)), 3)
      0.333
    """

    def __init__(
        self, corpus: CorpusLike | ItemCorpus, *, id_feature: str | None = None
    ) -> None:
        super().__init__(corpus, id_feature)
        self._total = self.num_items

    def __repr__(self) -> str:
        return described(self, num_items=self.num_items)

    @property
    def log_q(self) -> float:
        return -math.log(self.num_items)

    def _intervals(self, positions: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        return positions, tf.cast(positions < self.num_items, tf.int64)

    def _owners(self, numbers: tf.Tensor) -> tf.Tensor:
        return numbers
