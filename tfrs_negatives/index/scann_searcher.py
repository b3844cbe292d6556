"""A ScaNN index as variables that a graph can search and a refresh can replace."""

from __future__ import annotations

import contextlib
import dataclasses
import uuid
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import tensorflow as tf

from tfrs_negatives._scann_ops import scann_ops
from tfrs_negatives.index.checked_embeddings import squared_norms
from tfrs_negatives.index.recall_sample import Search
from tfrs_negatives.index.searcher import Searcher

# The tensors of a ScaNN index, in the order in which `scann_to_tensors` returns them.
_TENSORS = (
    "scann_config",
    "serialized_partitioner",
    "datapoint_to_token",
    "ah_codebook",
    "hashed_dataset",
    "int8_dataset",
    "int8_multipliers",
    "dp_norms",
    "x",
)

# ScaNN aborts the process when distances overflow in float32.
_MAX_NORM = 1e15


@dataclasses.dataclass(frozen=True)
class ScannSettings:
    """How to build and search an index; see `ScaNN`.

    `num_leaves` = 0 stands for scoring every candidate exactly. The `oversampling`
    factors say how many candidates to look at for each one that is asked for.
    `sample_recall` is what was measured for `recall_target`.
    """

    num_leaves: int
    num_leaves_to_search: int
    leaf_oversampling: int
    num_reordering_candidates: int
    reordering_oversampling: int
    training_iterations: int
    dimensions_per_block: int
    parallel: bool
    storage: str = "float32"
    sample_recall: float | None = None


class ScannSearcher(Searcher):
    """Searches with ScaNN's TensorFlow operations.

    ScaNN makes its searcher from the tensors when a graph first runs, and keeps it
    as a resource under a name. `refresh` replaces the tensors and destroys that
    resource, so that the next run of any graph makes a new one.

    Args:
      candidates: `[N, d]` float32, checked.
      identifiers: `[N]` ids, checked.
      choose_settings: Function from N to `ScannSettings`.
      tune: Function of (search, candidates, settings) to settings, called when the
        index is trained; `search` is what `choose_breadth` takes. It may raise.
    """

    def __init__(
        self,
        candidates: tf.Tensor,
        identifiers: tf.Tensor,
        choose_settings: Callable[[int], ScannSettings],
        tune: Callable[[Search, tf.Tensor, ScannSettings], ScannSettings],
    ) -> None:
        super().__init__(candidates, identifiers)
        self._choose_settings, self._tune = choose_settings, tune
        self._resource_name = f"scann-{uuid.uuid4()}"
        tensors, self._settings = self._build(candidates)
        self._breadth = _breadth(tensors, self._settings, self.num_rows)
        # The sizes change in a refresh, hence no static shapes. ScaNN runs on the CPU
        # only: on a GPU the candidates would be copied back for every query.
        with tf.device("CPU:0"):
            self._tensors = {
                name: tf.Variable(
                    tensor, shape=tf.TensorShape(None), trainable=False, name=name
                )
                for name, tensor in tensors.items()
            }
            # The same for graphs, which outlive a refresh.
            self._graph_breadth = tf.Variable(
                self._breadth, shape=[None, 2], trainable=False, name="breadth"
            )
        # The resource belongs to the process, not to a Python object.
        self._resource = self._make_resource()
        self._finalizer = weakref.finalize(self, _destroy, self._resource)
        self._finalizer.atexit = False

    def _replace(self, candidates: tf.Tensor) -> None:
        tensors, settings = self._build(candidates)
        for name, tensor in tensors.items():
            self._tensors[name].assign(tensor)
        self._settings = settings
        self._breadth = _breadth(tensors, settings, len(candidates))
        self._graph_breadth.assign(self._breadth)
        _destroy(self._resource)
        # Made again here rather than in the next query, which would have to wait.
        self._resource = self._make_resource()

    def _build(
        self, candidates: tf.Tensor
    ) -> tuple[dict[str, tf.Tensor], ScannSettings]:
        """Trains an index over `candidates`; returns its tensors and settings."""
        ops = scann_ops()
        settings = self._choose_settings(len(candidates))
        norm = np.sqrt(squared_norms(candidates).max())
        if not norm <= _MAX_NORM:
            raise ValueError(
                f"`candidates` must have norms up to {_MAX_NORM:g} for ScaNN, received "
                f"one of {norm:g}. Normalise the embeddings, or use BruteForce."
            )
        # The number of neighbours is given again with every search.
        builder = ops.builder(candidates, 10, "dot_product")
        if settings.num_leaves:
            builder = (
                builder.tree(
                    num_leaves=settings.num_leaves,
                    num_leaves_to_search=settings.num_leaves_to_search,
                    training_iterations=settings.training_iterations,
                )
                .score_ah(settings.dimensions_per_block)
                .reorder(
                    settings.num_reordering_candidates,
                    quantize=settings.storage == "int8",
                )
            )
        else:
            builder = builder.score_brute_force()
        built = builder.build(
            shared_name=f"{self._resource_name}-build"
        ).searcher_handle

        def search(
            queries: tf.Tensor, k: int, leaves: int, reordering: int
        ) -> tf.Tensor:
            positions, scores = ops.scann_search_batched(
                built, queries, k, reordering, leaves, settings.parallel
            )
            return tf.where(tf.math.is_finite(scores), positions, -1)

        try:
            if settings.num_leaves:
                settings = self._tune(search, candidates, settings)
            tensors = ops.scann_to_tensors(built)
        finally:
            _destroy(built)
        tensors = dict(zip(_TENSORS, tensors, strict=True))
        if tensors["x"].shape.rank:
            # Equal, and in memory already.
            tensors["x"] = candidates
        return tensors, settings

    def _make_resource(self) -> tf.Tensor:
        """The searcher that ScaNN keeps under our name, made when there is none."""
        return scann_ops().tensors_to_scann(
            **self._tensors, shared_name=self._resource_name
        )

    @contextlib.contextmanager
    def traced_for_export(self) -> Iterator[None]:
        # Under the name of this object's resource, a graph loaded into this process
        # would answer from whatever candidates this object holds by then.
        own_name = self._resource_name
        self._resource_name = f"{own_name}-export-{uuid.uuid4()}"
        try:
            yield
        finally:
            self._resource_name = own_name

    def _variables(self) -> list[tf.Variable]:
        return [*self._tensors.values(), self._graph_breadth]

    def settings(self) -> dict[str, Any]:
        return dataclasses.asdict(self._settings)

    def candidates(self) -> tf.Tensor:
        candidates = self._tensors["x"].value()
        if candidates.shape.rank != 2 or len(candidates) != self.num_rows:
            raise ValueError(
                'The index holds rounded candidates only (storage="int8"), and needs '
                'them whole for `popularity`. Use storage="float32".'
            )
        return candidates

    def search(
        self, queries: tf.Tensor, k: int | tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        eager = tf.executing_eagerly()
        if eager:
            resource, k = self._resource, int(k)
            leaves, reordering = self._breadth[k - 1].tolist()
        else:
            resource = self._make_resource()
            leaves, reordering = tf.unstack(
                tf.gather(self._graph_breadth, k - 1), num=2
            )
        positions, scores = scann_ops().scann_search_batched(
            resource,
            queries,
            final_num_neighbors=k,
            pre_reordering_num_neighbors=reordering,
            leaves_to_search=leaves,
            parallel=self._settings.parallel,
        )
        if eager and scores.shape[1] == k:
            return scores, positions
        # Where ScaNN found too few for all queries, it returns fewer columns; where
        # for some, NaN with row 0.
        rest = tf.stack([[0, 0], [0, k - tf.shape(scores)[1]]])
        return (
            tf.pad(scores, rest, constant_values=float("-inf")),
            tf.pad(positions, rest, constant_values=-1),
        )


def _breadth(
    tensors: dict[str, tf.Tensor], settings: ScannSettings, num_rows: int
) -> np.ndarray:
    """How much to look at for each k from 1 to `num_rows`.

    A table, because the operations of a formula would show in the time of a query.

    Returns:
      `[num_rows, 2]` int32: leaves to search, and candidates to score exactly; -1
      where there are no leaves.
    """
    if not settings.num_leaves:
        return np.full([num_rows, 2], -1, np.int32)
    k = np.arange(1, num_rows + 1)
    # Even if the leaves nearest to a query were the smallest ones, these hold enough
    # candidates.
    sizes = np.bincount(
        tensors["datapoint_to_token"].numpy(), minlength=settings.num_leaves
    )
    wanted = np.minimum(k * settings.leaf_oversampling, num_rows)
    leaves = np.searchsorted(np.cumsum(np.sort(sizes)), wanted) + 1
    leaves = np.maximum(leaves, settings.num_leaves_to_search)
    reordering = np.maximum(
        k * settings.reordering_oversampling, settings.num_reordering_candidates
    )
    reordering = np.minimum(reordering, num_rows)
    return np.stack([leaves, reordering], axis=1).astype(np.int32)


def _destroy(handle: tf.Tensor) -> None:
    # As a finalizer this may run while some graph is being built.
    with tf.__internal__.eager_context.eager_mode():
        tf.raw_ops.DestroyResourceOp(resource=handle, ignore_lookup_error=True)
