"""A corpus in shards, searched without having all of it in memory."""

from __future__ import annotations

import functools
from collections.abc import Iterator

import numpy as np
import tensorflow as tf
from numpy.typing import ArrayLike

from tfrs_negatives.index.brute_force import exact_top_k
from tfrs_negatives.metrics.candidate_corpus import CandidateCorpus, largest_norm
from tfrs_negatives.metrics.corpus_ids import KnownIds
from tfrs_negatives.metrics.corpus_inputs import IdLists
from tfrs_negatives.metrics.exact_counts import count_at_least
from tfrs_negatives.metrics.ranks import ranks_of_positions
from tfrs_negatives.pipeline.embedding_shards import EmbeddingShards

# Bytes of shards that are kept, rather than read for each search.
_HELD = 2**29


class CorpusShards:
    """Ids and embeddings of a corpus; a row's position is its place in all shards.

    It is a `MiningSource`: `index.mining.mine` takes it for an index.

    Args:
      shards: What `embed_rows` wrote.
    """

    # A log has items that are newer than the corpus.
    complete = False
    dot_products = True

    def __init__(self, shards: EmbeddingShards) -> None:
        self._shards, self._starts = shards, shards.starts
        self.num_items = len(shards)
        self._held: dict[int, tf.Tensor] = {}
        self._holds_all = 4 * shards.width * self.num_items <= _HELD

    @property
    def width(self) -> int:
        """d."""
        return self._shards.width

    @property
    def dtype(self) -> tf.DType:
        """Of the ids."""
        return self._shards.dtype

    @functools.cached_property
    def largest_norm(self) -> tf.Tensor:
        """The greatest length of an embedding, a scalar float64 tensor."""
        norms = [largest_norm(embeddings) for _, embeddings in self.each()]
        return tf.reduce_max(tf.stack(norms))

    def each(self) -> Iterator[tuple[int, tf.Tensor]]:
        """Where each shard that has rows begins, and its embeddings [n, d] float32."""
        for shard, (start, size) in enumerate(
            zip(self._starts, self._shards.sizes, strict=True)
        ):
            if not size:
                continue
            if shard not in self._held:
                if not self._holds_all:
                    self._held.clear()
                _, embeddings = self._shards.read(shard)
                self._held[shard] = tf.constant(embeddings)
            yield start, self._held[shard]

    def find(self, queries: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        """Scores [b, k] and positions of the best k, as one index of all would."""
        scores = np.zeros([len(queries), 0], np.float32)
        positions = np.zeros(scores.shape, np.int64)
        for start, embeddings in self.each():
            found, rows = exact_top_k(
                tf.constant(queries), embeddings, min(k, len(embeddings))
            )
            scores = np.append(scores, found, axis=1)
            positions = np.append(positions, start + rows.numpy().astype(int), axis=1)
            # Stable: of equal scores the one that is first in the corpus.
            order = np.argsort(-scores, axis=1, kind="stable")[:, :k]
            scores = np.take_along_axis(scores, order, axis=1)
            positions = np.take_along_axis(positions, order, axis=1)
        return scores, positions

    def positions(self, ids: ArrayLike) -> np.ndarray:
        """Positions of ids, of any shape; -1 for those that are none of the corpus."""
        wanted = np.asarray(ids)
        distinct, places = np.unique(wanted, return_inverse=True)
        found = np.full(len(distinct), -1)
        for shard, start in enumerate(self._starts):
            if len(distinct):
                own = self._shards.ids(shard)
                at = np.minimum(np.searchsorted(distinct, own), len(distinct) - 1)
                rows = np.flatnonzero(distinct[at] == own)
                found[at[rows]] = start + rows
        return found[places].reshape(wanted.shape)

    def ids(self, positions: np.ndarray) -> np.ndarray:
        """Ids of positions, of any shape."""
        distinct, places = np.unique(positions, return_inverse=True)
        parts = [
            self._shards.ids(shard)[rows] for shard, rows in self._by_shard(distinct)
        ]
        dtype = object if self.dtype == tf.string else np.int64
        found = np.concatenate([np.zeros(0, dtype), *parts])
        return found[places].reshape(np.shape(positions))

    def vectors(self, positions: np.ndarray) -> np.ndarray:
        """Embeddings of positions, which ascend: [m, d] float32."""
        found = np.zeros([len(positions), self.width], np.float32)
        for start, embeddings in self.each():
            stop = start + len(embeddings)
            first, last = np.searchsorted(positions, [start, stop])
            found[first:last] = embeddings.numpy()[positions[first:last] - start]
        return found

    def _by_shard(self, positions: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
        """Rows of the shards that have some of the positions, which ascend."""
        bounds = np.searchsorted(positions, [*self._starts, self.num_items])
        for shard, start in enumerate(self._starts):
            first, last = bounds[shard : shard + 2]
            if first < last:
                yield shard, positions[first:last] - start


@functools.lru_cache(maxsize=1)
def corpus_of(shards: EmbeddingShards) -> CorpusShards:
    """The corpus in these shards, which a worker keeps for the next queries."""
    return CorpusShards(shards)


class RankedShards(CandidateCorpus):
    """The corpus of a `metrics.CorpusRecall`, a shard of it in memory at a time.

    Args:
      corpus: The shards.
    """

    def __init__(self, corpus: CorpusShards) -> None:
        self._shards = corpus
        # Outside of a graph its loops over positives are a hundred times slower.
        self._count = tf.function(
            count_at_least, reduce_retracing=True, autograph=False
        )

    @property
    def width(self) -> int:
        return self._shards.width

    def is_exact(self) -> bool:
        """True."""
        return True

    def known_ids(self) -> KnownIds:
        return KnownIds(True, self._shards.dtype)

    def ranks_of_ids(
        self,
        queries: tf.Tensor,
        positives: IdLists,
        excluded: IdLists | None,
        deepest: int,
    ) -> tf.Tensor:
        lists = [*positives, *(excluded or ())]
        ranks = tf.numpy_function(
            lambda queries, *lists: self._ranks(queries, lists, deepest),
            [queries, *lists],
            tf.int32,
        )
        return tf.ensure_shape(ranks, [None, None])

    def ranks_of_embeddings(
        self, queries: tf.Tensor, positives: tf.Tensor, deepest: int
    ) -> tf.Tensor:
        raise ValueError("Positives of a corpus in shards need ids.")

    def _ranks(
        self, queries: np.ndarray, lists: tuple[np.ndarray, ...], deepest: int
    ) -> np.ndarray:
        shards = self._shards
        some = [
            ids[present] for ids, present in zip(lists[::2], lists[1::2], strict=True)
        ]
        positions = shards.positions(np.concatenate(some))
        members, places = np.unique(positions, return_inverse=True)
        # What the corpus lacks is -1, and first.
        num_lacking = int(np.searchsorted(members, 0))
        places -= num_lacking
        vectors = tf.constant(shards.vectors(members[num_lacking:]))
        if not len(vectors):  # So that there is one to look at.
            vectors = tf.zeros([1, shards.width])
        rows = [np.full(present.shape, -1, np.int32) for present in lists[1::2]]
        bounds = np.cumsum([len(one) for one in some])[:-1]
        for row, place, present in zip(
            rows, np.split(places, bounds), lists[1::2], strict=True
        ):
            row[present] = place
        norm = shards.largest_norm

        def count(
            queries: tf.Tensor, own: tf.Tensor, norms: tf.Tensor, limits: tf.Tensor
        ) -> tf.Tensor:
            counts = tf.zeros(tf.shape(own), tf.int32)
            for _, embeddings in shards.each():
                found, _ = self._count(queries, embeddings, norm, own, norms, limits)
                counts += found
            return counts

        none = np.zeros([len(queries), 0], np.int32)
        positives, excluded = (*rows, none)[:2]
        return ranks_of_positions(
            tf.constant(queries), vectors, norm, positives, excluded, deepest, count
        ).numpy()
