"""A ScaNN index as variables that a graph can search and a refresh can replace."""

import contextlib
import dataclasses
import uuid
import weakref

import numpy as np
import tensorflow as tf

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


def scann_ops():
    """The module of ScaNN's TensorFlow operations.

    Raises:
      ImportError: if it is missing, or built for another TensorFlow.
    """
    try:
        from scann.scann_ops.py import scann_ops as ops
    except (ImportError, tf.errors.OpError) as error:
        raise ImportError(
            f"ScaNN cannot be loaded with TensorFlow {tf.__version__} ({error}). "
            "Install it with `pip install tfrs_negatives[scann]`, or use "
            "`tfrs_negatives.index.BruteForce`, which needs TensorFlow only."
        ) from error
    return ops


@dataclasses.dataclass(frozen=True)
class ScannSettings:
    """How to build and search an index; see `ScaNN`.

    `num_leaves` = 0 stands for scoring every candidate exactly. The `oversampling`
    factors say how many candidates to look at for each one that is asked for.
    """

    num_leaves: int
    num_leaves_to_search: int
    leaf_oversampling: int
    num_reordering_candidates: int
    reordering_oversampling: int
    training_iterations: int
    dimensions_per_block: int
    parallel: bool


class ScannSearcher(Searcher):
    """Searches with ScaNN's TensorFlow operations.

    ScaNN makes its searcher from the tensors when a graph first runs, and keeps it
    as a resource under a name. `refresh` replaces the tensors and destroys that
    resource, so that the next run of any graph makes a new one.

    Args:
      candidates: `[N, d]` float32, checked.
      identifiers: `[N]` ids, checked.
      choose_settings: Function from N to `ScannSettings`.
    """

    def __init__(self, candidates, identifiers, choose_settings):
        super().__init__(candidates, identifiers)
        self._choose_settings = choose_settings
        self._resource_name = f"scann-{uuid.uuid4()}"
        self._settings = choose_settings(self.num_rows)
        tensors = self._build(candidates, self._settings)
        # The sizes change in a refresh, hence no static shapes. ScaNN runs on the CPU
        # only: on a GPU the candidates would be copied back for every query.
        with tf.device("CPU:0"):
            self._tensors = {
                name: tf.Variable(
                    tensor, shape=tf.TensorShape(None), trainable=False, name=name
                )
                for name, tensor in zip(_TENSORS, tensors, strict=True)
            }
            self._rows_of_leaves = tf.Variable(
                _rows_of_smallest_leaves(tensors, self._settings),
                shape=[None],
                trainable=False,
                name="rows_of_leaves",
            )
            self._num_leaves_to_search = tf.Variable(
                self._settings.num_leaves_to_search,
                trainable=False,
                name="num_leaves_to_search",
            )
        # The resource belongs to the process, not to a Python object.
        self._resource = self._handle()
        self._finalizer = weakref.finalize(self, _destroy, self._resource)
        self._finalizer.atexit = False

    def _replace(self, candidates):
        settings = self._choose_settings(candidates.shape[0])
        tensors = self._build(candidates, settings)
        for name, tensor in zip(_TENSORS, tensors, strict=True):
            self._tensors[name].assign(tensor)
        self._rows_of_leaves.assign(_rows_of_smallest_leaves(tensors, settings))
        self._num_leaves_to_search.assign(settings.num_leaves_to_search)
        self._settings = settings
        _destroy(self._resource)
        # Made again here rather than in the next query, which would have to wait.
        self._resource = self._handle()

    def _build(self, candidates, settings):
        """Trains an index over `candidates` and returns its tensors."""
        ops = scann_ops()
        norm = tf.sqrt(tf.reduce_max(tf.reduce_sum(tf.square(candidates), axis=1)))
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
                .reorder(settings.num_reordering_candidates)
            )
        else:
            builder = builder.score_brute_force()
        built = builder.build(shared_name=f"{self._resource_name}-build")
        tensors = ops.scann_to_tensors(built.searcher_handle)
        _destroy(built.searcher_handle)
        return tensors

    def _handle(self):
        """The searcher that ScaNN keeps under our name, made when there is none."""
        return scann_ops().tensors_to_scann(
            **self._tensors, shared_name=self._resource_name
        )

    @contextlib.contextmanager
    def traced_for_export(self):
        # Under the name of this object's resource, a graph loaded into this process
        # would answer from whatever candidates this object holds by then.
        own_name = self._resource_name
        self._resource_name = f"{own_name}-export-{uuid.uuid4()}"
        try:
            yield
        finally:
            self._resource_name = own_name

    def num_dimensions(self):
        return tf.shape(self._tensors["x"])[1]

    def settings(self):
        return dataclasses.asdict(self._settings)

    def search(self, queries, k):
        settings = self._settings
        rows = self.identifiers.num_rows()
        # Even if the leaves nearest to a query were the smallest ones, these hold
        # enough candidates.
        wanted = tf.minimum(k * settings.leaf_oversampling, rows)
        leaves = tf.searchsorted(self._rows_of_leaves, wanted[tf.newaxis])[0] + 1
        leaves = tf.maximum(leaves, self._num_leaves_to_search)
        reordering = tf.maximum(
            k * settings.reordering_oversampling, settings.num_reordering_candidates
        )
        reordering = tf.minimum(reordering, rows)
        exact = tf.equal(self._num_leaves_to_search, 0)
        positions, scores = scann_ops().scann_search_batched(
            self._handle(),
            queries,
            final_num_neighbors=k,
            pre_reordering_num_neighbors=tf.where(exact, -1, reordering),
            leaves_to_search=tf.where(exact, -1, leaves),
            parallel=settings.parallel,
        )
        # Where ScaNN found too few, it returns fewer columns, and NaN with row 0.
        missing = tf.math.is_nan(scores)
        scores = tf.where(missing, float("-inf"), scores)
        positions = tf.where(missing, -1, positions)
        rest = [[0, 0], [0, k - tf.shape(scores)[1]]]
        return (
            tf.pad(scores, rest, constant_values=float("-inf")),
            tf.pad(positions, rest, constant_values=-1),
        )


def _rows_of_smallest_leaves(tensors, settings):
    """How many candidates the 1, 2, 3... smallest leaves hold together, int32."""
    leaf_of_row = tensors[_TENSORS.index("datapoint_to_token")].numpy()
    if not settings.num_leaves:
        return np.array([np.iinfo(np.int32).max], np.int32)
    sizes = np.bincount(leaf_of_row, minlength=settings.num_leaves)
    return np.cumsum(np.sort(sizes)).astype(np.int32)


def _destroy(handle):
    # As a finalizer this may run while some graph is being built.
    with tf.__internal__.eager_context.eager_mode():
        tf.raw_ops.DestroyResourceOp(resource=handle, ignore_lookup_error=True)
