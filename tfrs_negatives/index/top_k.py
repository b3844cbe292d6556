"""The interface that all indexes share: build, refresh, query."""

from __future__ import annotations

import abc
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import tensorflow as tf

from tfrs_negatives._keras import keras, note_inputs
from tfrs_negatives._repr import described
from tfrs_negatives.index import identifiers as ids_lib
from tfrs_negatives.index.checked_embeddings import checked_candidates
from tfrs_negatives.index.collect_embeddings import collect
from tfrs_negatives.index.popularity_dial import PopularityDial
from tfrs_negatives.index.searcher import Searcher
from tfrs_negatives.types import Config, Features, ListsLike, TensorLike, Tower

if TYPE_CHECKING:
    from typing_extensions import Self


class TopK(keras.Model, abc.ABC):
    """Base of indexes that return the k best candidates of each query.

    The interface is that of `tfrs.layers.factorized_top_k.TopK`. The candidates are no
    weights of the layer: they are neither trained nor counted, and neither weight files
    nor checkpoints hold them. Build the index again from restored towers;
    `export_retrieval` saves it for serving.

    Args:
      query_model: Keras model (or callable) from raw query features to embeddings
        `[B, d]`. None: the layer is called with query embeddings.
      k: How many candidates to return by default; all of them where they are fewer.
      name: Name of the layer.
    """

    if TYPE_CHECKING:
        # To editors, what makes a `keras.Model` may return anything.
        def __new__(cls, *args: Any, **kwargs: Any) -> Self: ...

    def __init__(
        self, query_model: Tower | None = None, k: int = 10, name: str | None = None
    ) -> None:
        if not isinstance(k, int) or isinstance(k, bool) or k < 1:
            raise ValueError(f"`k` must be a positive int, received {k!r}.")
        # Scores are float32 under every mixed-precision policy, and features of the
        # query model are its own to cast.
        super().__init__(name=name, dtype="float32", autocast=False)
        self.query_model = query_model
        self._k = k
        self._searcher: Searcher | None = None
        # Nothing depends on the shape of the queries.
        self.built = True

    def get_config(self) -> Config:
        """Constructor arguments; the candidates are not among them."""
        query_model = self.query_model
        if query_model is not None:
            query_model = keras.layers.serialize(query_model)
        return {"query_model": query_model, **self._options()}

    def _options(self) -> Config:
        """Constructor arguments but for the query model."""
        return {"name": self.name, "k": self._k}

    def __repr__(self) -> str:
        held = {}
        if self.has_candidates:
            searcher = self.searcher
            held = {
                "num_items": searcher.num_rows,
                "width": searcher.width,
                "ids": searcher.identifiers.dtype.name,
                "default_k": self.default_k(),
            }
        options = {"query_model": self.query_model, **self._options()}
        return described(self, **options, **held)

    @classmethod
    def from_config(
        cls, config: Config, custom_objects: dict[str, Any] | None = None
    ) -> Self:
        """Rebuilds an empty index with the same arguments."""
        config = dict(config)
        if config.get("query_model") is not None:
            config["query_model"] = keras.layers.deserialize(
                config["query_model"], custom_objects=custom_objects
            )
        return cls(**config)

    @abc.abstractmethod
    def _build_searcher(
        self, candidates: tf.Tensor, identifiers: tf.Tensor
    ) -> Searcher:
        """Returns a new `Searcher` over checked candidates and ids."""

    @abc.abstractmethod
    def is_exact(self) -> bool:
        """Whether the true k best candidates are always found."""

    def default_k(self) -> int:
        """How many candidates a query without `k` gets, an int."""
        return min(self._k, self.searcher.num_rows)

    @property
    def has_candidates(self) -> bool:
        """Whether `index` was called."""
        return self._searcher is not None

    @property
    def searcher(self) -> Searcher:
        """The built `Searcher`.

        Raises:
          ValueError: before `index` was called.
        """
        if self._searcher is None:
            raise ValueError(
                f"{type(self).__name__} holds no candidates yet. Call `index` or "
                "`index_from_dataset` first."
            )
        return self._searcher

    def searcher_with(self, dial: PopularityDial) -> Searcher:
        """A further `Searcher` of the same candidates, with their popularity.

        Raises:
          ValueError: before `index` was called, and where an index can be built from
            the candidates alone, but not with their popularity.
        """
        searcher = self.searcher
        return self._build_searcher(dial.candidates(), searcher.identifiers.values())

    def index(
        self, candidates: TensorLike, identifiers: TensorLike | None = None
    ) -> Self:
        """Builds the index, or replaces all of it by new candidates.

        The number of candidates and their width may change: functions traced
        before keep working, and answer from the new candidates. When the dtype of
        the ids changes, or row numbers take the place of ids, functions traced before
        raise an `InvalidArgumentError` instead. Not to be called while other threads
        query the index.

        Args:
          candidates: `[N, d]` floating-point embeddings, searched in float32.
          identifiers: `[N]` distinct ids: int32, int64, string, float32 or float64.
            None: the row numbers, as int32, whatever the ids were before.

        Returns:
          The index itself.

        Raises:
          ValueError: for no candidates, the wrong rank, NaN or infinite
            candidates, ids that are not distinct or not one per row. The index
            then stays what it was.
        """
        candidates = checked_candidates(candidates)
        ids = ids_lib.checked(identifiers, candidates.shape[0])
        searcher = self._searcher
        # What was traced for ids must not meet row numbers, int32 though both may be.
        if (
            searcher is not None
            and searcher.identifiers.dtype == ids.dtype
            and (identifiers is not None or searcher.identifiers.are_row_numbers)
        ):
            searcher.refresh(candidates, ids)
        else:
            self._searcher = self._build_searcher(candidates, ids)
            if searcher is not None:
                searcher.retire()
                self._forget_traces()
        self.searcher.identifiers.are_row_numbers = identifiers is None
        return self

    def index_from_dataset(
        self, candidates: tf.data.Dataset, *, verbose: int = 0, **arguments: Any
    ) -> Self:
        """Builds or replaces the index from a batched dataset.

        The catalogue is held twice for a moment, when its batches become one matrix,
        and once while the index is built from it (beside what the index holds).

        Args:
          candidates: `tf.data.Dataset` of embeddings `[batch, d]`, or of pairs
            (ids `[batch]`, embeddings `[batch, d]`).
          verbose: 1 shows Keras' progress bar, counting batches.
          **arguments: Further arguments of `index`, such as `sample_queries` of
            `ScaNN`.

        Returns:
          The index itself.

        Raises:
          ValueError: for elements of another structure, batches whose ids and
            embeddings differ in number, and whatever `index` raises.
        """
        identifiers, embeddings = collect(candidates, verbose)
        return self.index(embeddings, identifiers, **arguments)

    def __call__(
        self,
        queries: TensorLike | Features,
        k: int | tf.Tensor | None = None,
        **kwargs: Any,
    ) -> tuple[tf.Tensor, tf.Tensor]:
        if not kwargs and self._may_skip_keras(queries):
            if isinstance(queries, np.ndarray):
                queries = tf.convert_to_tensor(queries)
            note_inputs(self, queries)
            return self._search(queries, k, None)
        # Keras 3 takes Python numbers by keyword only.
        return super().__call__(queries, k=k, **kwargs)

    def _may_skip_keras(self, queries: TensorLike | Features) -> bool:
        """Whether Keras' `__call__` would only cost time, several times a search."""
        return (
            isinstance(queries, (np.ndarray, tf.__internal__.EagerTensor))
            and self.query_model is None
            and type(self).call is TopK.call
            and tf.executing_eagerly()
        )

    def call(
        self, queries: TensorLike | Features, k: int | tf.Tensor | None = None
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Finds the best candidates.

        Args:
          queries: What `query_model` takes, or query embeddings `[B, d]`.
          k: How many candidates: an int or a scalar int32 tensor, from 1 to the
            number of candidates. None: the constructor's `k`, or all candidates
            where they are fewer.

        Returns:
          Scores `[B, k]` float32 in descending order, and ids `[B, k]`. A row with
          too few hits (or whose query is NaN or infinite) ends in scores of -inf, by
          which alone a missing hit is known: the id beside it, -1 or "", may be a
          candidate's too.

        Raises:
          ValueError: before `index`, for embeddings of the wrong shape and for `k`
            out of range; `tf.errors.InvalidArgumentError` if only the values tell.
        """
        if self.query_model is not None:
            queries = self.query_model(queries)
        return self._search(queries, k, None)

    # Without autograph, a wrong argument is a one-line error.
    @tf.function(reduce_retracing=True, autograph=False)
    def query_with_exclusions(
        self,
        queries: TensorLike | Features,
        exclusions: ListsLike,
        k: int | tf.Tensor | None = None,
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Finds the best candidates that are not excluded.

        Args:
          queries: As in `call`.
          exclusions: `[B, E]` ids of the same dtype as the index's, E of any size, or
            a `tf.RaggedTensor` for rows of different lengths. Ids that the index does
            not have are ignored. Each new Python list costs a trace.
          k: As in `call`.

        Returns:
          As `call`; where fewer than k candidates remain, a row ends in -inf.

        Raises:
          ValueError: as `call`, and for exclusions of another dtype, rank or number
            of rows.
        """
        note_inputs(self, queries)
        if self.query_model is not None:
            queries = self._embed(queries)
        return self._search(queries, k, exclusions)

    @tf.function(reduce_retracing=True)
    def _embed(self, queries: TensorLike | Features) -> tf.Tensor:
        """The query model, with autograph for the Python in it."""
        return cast(Tower, self.query_model)(queries)

    def _search(
        self,
        queries: TensorLike,
        k: int | tf.Tensor | None,
        exclusions: ListsLike | None,
    ) -> tuple[tf.Tensor, tf.Tensor]:
        searcher = self.searcher
        identifiers, excluded = searcher.identifiers, None
        if exclusions is not None:
            excluded = identifiers.positions_of_exclusions(exclusions)
        k = self.default_k() if k is None else k
        scores, positions = searcher.retrieve(queries, k, excluded)
        return scores, identifiers.gather(positions)

    def _forget_traces(self) -> None:
        """Lets `query_with_exclusions` be traced again: its result dtype changed."""
        function = type(self).query_with_exclusions.python_function
        self.query_with_exclusions = tf.function(
            function.__get__(self), reduce_retracing=True, autograph=False
        )
