"""What all samplers share: how a distribution over items joins a dataset."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from tfrs_negatives import _checks
from tfrs_negatives.samplers.draw_context import DrawContext
from tfrs_negatives.samplers.item_corpus import ItemCorpus
from tfrs_negatives.samplers.proposal import Proposal
from tfrs_negatives.samplers.row_sets import sorted_sets
from tfrs_negatives.types import CorpusLike, Features, LogQSource


class Sampler(tf.Module):
    """A distribution over the N items of a corpus; base of all samplers.

    How many items are drawn, for what, and from which seed belongs to `attach`.

    A draw is a pure function of a seed that the pipeline carries: a
    `tf.data.Dataset.random` runs beside the dataset. So an iterator's checkpoint has
    the whole state, and one restored in the middle of an epoch draws what the first
    would have drawn. TensorFlow's candidate samplers
    (`tf.random.fixed_unigram_candidate_sampler` and its kin) are not used: their
    state is a generator inside the operation, which no iterator saves; theirs is one
    distribution for all rows, without exclusions; and their table of N weights is an
    attribute of the graph.

    Variables are read by a function that tf.data does not see into. Were they
    captured, tf.data would refuse to save the iterator.

    Subclasses define `log_q` and `_proposal`.

    Args:
      corpus: The items' features, one row an item: a tensor, array or list [N, ...], a
        dict of such, or a `tf.data.Dataset` of items, single or in batches, read once.
        It is held once, however many elements draw from it. Each item comes once.
      id_feature: Which feature of a dict holds the items' distinct ids, for what
        names items: `exclude`, tables, counts. None: the corpus itself if it is a
        vector of integers or strings, else an item's id is its row number.

    Attributes:
      num_items: N.
    """

    # Whether draws belong to single rows, so that none can be shared.
    _rows_only = False
    # int64 variable of samplers that may have nothing to draw for a row.
    num_padded: tf.Variable | None = None

    def __init__(
        self, corpus: CorpusLike | ItemCorpus, id_feature: str | None = None
    ) -> None:
        super().__init__()
        self._corpus = (
            corpus if isinstance(corpus, ItemCorpus) else ItemCorpus(corpus, id_feature)
        )
        self.num_items = self._corpus.num_items

    @property
    def _needs(self) -> tuple[str, ...]:
        """Features of the elements that draws depend on."""
        return ()

    @property
    def log_q(self) -> LogQSource:
        """log q of a draw as `layers.MixedLogQ` takes it: a number, or a layer."""
        raise NotImplementedError

    def _proposal(self, rows: DrawContext) -> Proposal:
        """The distribution for these `DrawContext`.

        Returns:
          A `Proposal`.
        """
        raise NotImplementedError

    # Nothing here depends on tensors' values; converting would only warn.
    @tf.autograph.experimental.do_not_convert
    def attach(
        self,
        dataset: tf.data.Dataset,
        num_negatives: int,
        *,
        per_row: bool = False,
        exclude: str | None = None,
        name: str = "negatives",
        seed: int = 0,
        input_context: tf.distribute.InputContext | None = None,
    ) -> tf.data.Dataset:
        """Adds freshly drawn items to every element (that is, to every batch).

        To each element, with K = M = `num_negatives` and B rows, it adds

        * `name`: the items' features in the corpus's structure, [K, ...] shared by
          the element's rows, or [B, M, ...] with `per_row`;
        * `name + "_log_q"`: float32 [K] or [B, M], the log probability of each draw
          in the distribution that it was really drawn from: that of its row, without
          what was excluded;
        * with `per_row`, `name + "_mask"`: bool [B, M], False where nothing was left
          to draw. There stand the features of the corpus's first item, and log q 0.

        Draws are with replacement, but those of a row of a `Mined` by itself.

        Under tf.distribute, replicas never repeat each other's draws: with
        `distribute_datasets_from_function` each has elements, and so K negatives, of
        its own; `experimental_distribute_dataset` cuts each feature of an element
        along its first axis, shared negatives like the rows, so that each of R
        replicas has K / R of them.

        Args:
          dataset: Yields dicts, usually batches.
          num_negatives: K or M, at least 1.
          per_row: Whether every row has its own negatives.
          exclude: With `per_row`, the feature that holds each row's known positives,
            ids [B, P] or [B], of which each counts, or ragged. None of them is drawn
            for the row. Ids that the corpus lacks change nothing.
          name: What the negatives are called.
          seed: Equal seeds and names draw equal items; passes over the dataset draw
            differently.
          input_context: The `tf.distribute.InputContext` of this pipeline, so that
            workers' draws differ.

        Returns:
          The dataset with these features added. Its iterators checkpoint.

        Raises:
          ValueError: Elements that are not dicts, lack what is asked for or have the
            names already; `exclude` without `per_row`; shared draws of a sampler
            whose draws belong to rows; numbers out of range.
        """
        _checks.check_at_least("num_negatives", num_negatives, 1)
        seeds = seeds_of(name, seed, input_context)
        names = [name, f"{name}_log_q", *([f"{name}_mask"] if per_row else [])]
        self._check_element(dataset.element_spec, names, per_row, exclude)
        with tf.init_scope():
            self._check_supply(num_negatives)

        def add(element: Features, seed: tf.Tensor) -> Features:
            own = element if per_row else None
            features, log_q, mask = self._draw(own, num_negatives, exclude, seed)
            added = (features, log_q, mask) if per_row else (features, log_q)
            return {**element, **dict(zip(names, added, strict=True))}

        return tf.data.Dataset.zip(dataset, seeds).map(
            add, num_parallel_calls=tf.data.AUTOTUNE
        )

    def _draw(
        self, element: Features | None, num: int, exclude: str | None, seed: tf.Tensor
    ) -> tuple[Any, tf.Tensor, tf.Tensor]:
        """Features, log q and mask: [B, num], or [num] where `element` is None."""
        seeds = tf.random.split(seed, 2)
        if element is None:
            rows = DrawContext(seeds[0], tf.constant(1))
        else:
            excluded = None if exclude is None else self._positions(element, exclude)
            names = [*self._needs, *([exclude] if exclude else [])]
            rows = DrawContext(seeds[0], _num_rows(element, names), element, excluded)
        positions, log_q, mask = self._proposal(rows).draw(num, seeds[1])
        if element is None:
            positions, log_q, mask = positions[0], log_q[0], mask[0]
        positions = tf.where(mask, positions, 0)
        static = [num] if element is None else [tf.get_static_value(rows.size), num]
        positions.set_shape(static)
        mask = self._counted(mask)
        log_q = tf.ensure_shape(tf.where(mask, log_q, 0.0), static)
        features = tf.nest.map_structure(
            lambda feature: tf.gather(feature, positions), self._corpus.features
        )
        return features, log_q, tf.ensure_shape(mask, static)

    def _positions(self, element: Features, exclude: str) -> tf.Tensor:
        ids = element[exclude]
        _checks.check_rank(exclude, ids, (1, 2), "Pass known positives [B, P].")
        if isinstance(ids, tf.RaggedTensor):
            found = self._corpus.lookup(exclude, ids.flat_values)
            found = ids.with_flat_values(found).to_tensor(self.num_items)
        else:
            found = self._corpus.lookup(exclude, ids)
        if found.shape.rank == 1:
            found = found[:, tf.newaxis]
        return sorted_sets(found, self.num_items)

    def _check_element(
        self, spec: Any, names: Sequence[str], per_row: bool, exclude: str | None
    ) -> None:
        taken = [n for n in names if isinstance(spec, dict) and n in spec]
        if not isinstance(spec, dict) or taken:
            received = sorted(spec) if isinstance(spec, dict) else type(spec).__name__
            raise ValueError(
                f"`dataset` must yield dicts without {(taken or names)[0]!r}, received "
                f"{received}. Map it to a dict of features, or choose another `name`."
            )
        if self._rows_only and not per_row:
            raise ValueError(
                f"Draws of `{type(self).__name__}` belong to single rows: expected "
                "`per_row=True`, received False."
            )
        missing = [
            n for n in (*self._needs, exclude) if n is not None and n not in spec
        ]
        if missing:
            raise ValueError(
                f"`dataset` must yield the features that draws depend on, expected "
                f"{missing[0]!r}, received {sorted(spec)}."
            )
        if exclude is not None and not per_row:
            raise ValueError(
                "`exclude` names known positives of single rows: expected "
                "`per_row=True`, received shared negatives. Mask shared ones in the "
                "task: `known_positive_ids`."
            )

    def _check_supply(self, num_negatives: int, replacement: bool = False) -> None:
        """Warns where it is known already that rows have fewer items than asked for.

        Args:
          num_negatives: How many a row is asked for.
          replacement: Whether by draws with replacement: `DrawContext.replacement`.
        """

    def _counted(self, mask: tf.Tensor) -> tf.Tensor:
        """Returns `mask`, having counted what was not drawn where the sampler does."""
        num_padded = self.num_padded
        if num_padded is None:
            return mask

        def count(mask: np.ndarray) -> np.ndarray:
            num_padded.assign_add(np.count_nonzero(~mask))
            return mask

        # Not stateful, says this to tf.data: see the class.
        counted = tf.numpy_function(count, [mask], tf.bool, stateful=False)
        return tf.ensure_shape(counted, mask.shape)


def seeds_of(
    name: str, seed: int, input_context: tf.distribute.InputContext | None
) -> tf.data.Dataset:
    """A seed [2] int64 for each element; the arguments are those of `attach`."""
    _checks.check_at_least("seed", seed, 0)
    pipeline = input_context.input_pipeline_id if input_context else 0
    return tf.data.Dataset.random(
        seed=_fold(seed, pipeline, name), rerandomize_each_iteration=True
    ).batch(2, drop_remainder=True)


def _fold(seed: int, pipeline: int, name: str) -> int:
    """A seed of 63 bits for this pipeline's negatives of this name."""
    entropy = [seed, pipeline, *name.encode()]
    return int(np.random.SeedSequence(entropy).generate_state(1, np.uint64)[0] >> 1)


def _num_rows(element: Features, names: Sequence[str]) -> int | tf.Tensor:
    """B, from features `names`, or one that is not shared negatives added before."""
    for name, feature in {**{n: element[n] for n in names}, **element}.items():
        base = name.removesuffix("_log_q").removesuffix("_strata")
        log_q = element.get(f"{base}_log_q")
        if base in element and log_q is not None and log_q.shape.rank == 1:
            continue
        for part in tf.nest.flatten(feature):
            if isinstance(part, tf.RaggedTensor):
                return tf.cast(part.nrows(), tf.int32)
            if tf.is_tensor(part) and part.shape.rank:
                return _checks.size(part)
    raise ValueError(
        "`per_row` negatives need batches: expected a feature with a first axis, "
        f"received {sorted(element)}. Batch the dataset before attaching."
    )
