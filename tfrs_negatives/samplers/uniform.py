"""Negatives drawn uniformly from the corpus."""

import math

import tensorflow as tf

from tfrs_negatives import _checks


class Uniform:
    """Attaches uniformly drawn items to the elements of a `tf.data.Dataset`.

    In-batch negatives never show the model an item that has no interactions;
    these do (mixed negative sampling, Yang et al., WWW 2020). The K items are
    drawn with replacement, fresh for every element (that is, for every batch),
    and are meant as shared negatives of its rows: run their features through
    the item tower together with the batch's own items.

    ```python
    sampler = Uniform({"item_id": ids, "genre": genres}, num_negatives=1024)
    dataset = sampler.attach(interactions.batch(1024))
    # in compute_loss:
    items = {k: tf.concat([features[k], v], 0)
             for k, v in features["negatives"].items()}
    task(queries, item_tower(items), candidate_ids=items["item_id"], ...)
    ```

    Correct for the draw with `layers.MixedLogQ([batch_source, sampler.log_q])`.

    Args:
      corpus: The items' features, one row an item: a tensor or array [N, ...],
        a dict of such, or a `tf.data.Dataset` of single items, read once.
      num_negatives: K, items drawn for each element.
      seed: Two samplers with the same seed draw the same items. Passes over the
        dataset draw differently.

    Attributes:
      num_items: N.
      log_q: -log N, the log probability of any item in one draw.

    Raises:
      ValueError: An empty corpus, features of unequal length, K < 1.
    """

    def __init__(self, corpus, num_negatives, seed=0):
        _checks.check_at_least("num_negatives", num_negatives, 1)
        if isinstance(corpus, tf.data.Dataset):
            corpus = _read(corpus)
        corpus = tf.nest.map_structure(tf.convert_to_tensor, corpus)
        lengths = {int(feature.shape[0]) for feature in tf.nest.flatten(corpus)}
        if len(lengths) != 1 or lengths == {0}:
            raise ValueError(
                "`corpus` must hold the same number of items, at least one, in every "
                f"feature, received {sorted(lengths)}."
            )
        self.num_items = lengths.pop()
        self.num_negatives = num_negatives
        self.seed = seed
        self._corpus = corpus

    @property
    def log_q(self):
        return -math.log(self.num_items)

    def attach(self, dataset, name="negatives"):
        """Adds K items' features to every element.

        Args:
          dataset: Yields dicts, usually batches.
          name: Where the sampled features go, with the corpus's structure.

        Returns:
          The dataset with `element[name]` added. Its iterators checkpoint.

        Raises:
          ValueError: Elements that are not dicts, or have `name` already.
        """
        spec = dataset.element_spec
        if not isinstance(spec, dict) or name in spec:
            received = sorted(spec) if isinstance(spec, dict) else type(spec).__name__
            raise ValueError(
                f"`dataset` must yield dicts without {name!r}, received {received}. "
                "Map it to a dict of features, or choose another `name`."
            )
        seeds = tf.data.Dataset.random(
            seed=self.seed, rerandomize_each_iteration=True
        ).batch(2, drop_remainder=True)
        return tf.data.Dataset.zip(dataset, seeds).map(
            lambda element, seed: {**element, name: self._draw(seed)},
            num_parallel_calls=tf.data.AUTOTUNE,
        )

    def _draw(self, seed):
        rows = tf.random.stateless_uniform(
            [self.num_negatives], seed, maxval=self.num_items, dtype=tf.int64
        )
        return tf.nest.map_structure(
            lambda feature: tf.gather(feature, rows), self._corpus
        )


def _read(dataset):
    rows = list(dataset)
    if not rows:
        raise ValueError("`corpus` must hold at least one item, received none.")
    return tf.nest.map_structure(lambda *values: tf.stack(values), *rows)
