"""How well a model ranks held-out rows, among a corpus of any size."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import tensorflow as tf

from tfrs_negatives import _checks
from tfrs_negatives.data.positives_of import Positives
from tfrs_negatives.index.mining.mining_queries import pieces
from tfrs_negatives.metrics import CorpusRecall
from tfrs_negatives.metrics.corpus_inputs import checked_ks
from tfrs_negatives.metrics.rank_measures import MEASURES
from tfrs_negatives.pipeline.beam_engine import BeamEngine, import_beam
from tfrs_negatives.pipeline.corpus_shards import RankedShards, corpus_of
from tfrs_negatives.pipeline.embedding_shards import EmbeddingShards
from tfrs_negatives.pipeline.query_pairs import check_queries, gather_pairs, read_pairs
from tfrs_negatives.pipeline.query_steps import QueryStep
from tfrs_negatives.pipeline.shards import shard_names
from tfrs_negatives.pipeline.step import Progress
from tfrs_negatives.pipeline.step_folder import StepFolder
from tfrs_negatives.types import PathLike

if TYPE_CHECKING:
    import apache_beam as beam

_HELD_OUT, _EXCLUDED = "held_out", "excluded"
_FIGURES = "recall.json"
# Queries of a batch.
_BATCH = 8192


def corpus_recall(
    queries: PathLike,
    items: PathLike,
    held_out: PathLike,
    output: PathLike,
    *,
    excluded: PathLike | None = None,
    columns: Mapping[str, str | None] | None = None,
    ks: int | Sequence[int] = (10, 50, 100),
    measures: Sequence[str] = ("recall", "ndcg"),
    engine: BeamEngine | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Ranks held-out items among a corpus: `metrics.CorpusRecall` on many workers.

    Ranks are the same, and means up to the rounding of sums in float64. A worker takes
    a shard of queries, and goes through the shards of items with it; its memory is that
    of `mine_negatives`.

    Args:
      queries: What `pipeline.embed_rows` wrote of users: all its files.
      items: What it wrote of items.
      held_out: A table of interactions, as `data.interactions` takes it: the positives
        of each user. Users without any do not count, and neither do users that are no
        queries, which are told; an item that the corpus lacks is a miss.
      output: A folder to write, at a path that all workers have, or `scheme://...`.
      excluded: A table of the same columns, whose items are no answer to a user: the
        rows of training. None: all are.
      columns: Names of columns by role, as arguments of `data.interactions`.
      ks, measures: As `metrics.CorpusRecall` has them.
      engine: Where it runs; None: one process of this machine.
      progress: Function of a line that says how far it is, or None.

    Returns:
      What `recall.json` in the output holds: "queries", how many users were measured;
      "users_without_query"; and the measures, by names such as "corpus/recall@10".

    Raises:
      ValueError: Options out of range; folders that `embed_rows` did not write, or of
        other ids than the tables; something else is at `output`; the runner failed.
    """
    ks = checked_ks(ks)
    for measure in measures:
        _checks.check_choice("measures", measure, tuple(MEASURES))
    tables = {_HELD_OUT: held_out, _EXCLUDED: excluded}
    asked = QueryStep.of(queries, items, tables, columns)
    description = {"step": "corpus_recall", "ks": ks, "measures": list(measures)}
    step = asked.begun(output, description, engine, progress)
    if step is None:
        return asked.folder(output, description).read_output(_FIGURES)
    folder = step.folder
    names = [
        name.replace(".parquet", ".json")
        for name in shard_names(len(asked.queries.files), "_")
    ]
    missing = [shard for shard, name in enumerate(names) if not folder.has(name)]
    ranked = _Ranked(asked.queries, asked.items, ks, list(measures), names, folder)

    def build(pipeline: beam.Pipeline) -> None:
        beam = import_beam()
        pairs = gather_pairs(pipeline, asked.tables, len(names), missing)
        _ = pairs | "Rank" >> beam.MapTuple(ranked.write)

    with step.shards_told(names):
        step.engine.run(build)
    parts = [folder.read_json(name) for name in names]
    step.check_rows(sum(part["rows"] for part in parts), len(asked.queries))
    figures = {
        "queries": sum(part["queries"] for part in parts),
        "users_without_query": sum(part["users_without_query"] for part in parts),
    }
    if not figures["queries"]:
        raise ValueError(
            f"Expected held-out rows of users in {asked.queries.path!r}, received none "
            "of theirs. Embed the users that the rows are of."
        )
    for name in parts[0]["sums"]:
        total, weight = (
            sum(part["sums"][name][place] for part in parts) for place in (0, 1)
        )
        figures[name] = total / weight
    if figures["users_without_query"]:
        step.tell(f"{figures['users_without_query']:,} users are no queries")
    folder.write_json(_FIGURES, figures)
    folder.finish([_FIGURES])
    return figures


@functools.lru_cache(maxsize=1)
def _recall_of(
    items: EmbeddingShards, ks: tuple[int, ...], measures: tuple[str, ...]
) -> CorpusRecall:
    """The metric, which a worker keeps for the next queries."""
    return CorpusRecall(RankedShards(corpus_of(items)), ks, measures=measures)


class _Ranked:
    """Ranks for shards. A class, as workers get its method by pickling."""

    def __init__(
        self,
        queries: EmbeddingShards,
        items: EmbeddingShards,
        ks: Sequence[int],
        measures: Sequence[str],
        names: Sequence[str],
        folder: StepFolder,
    ) -> None:
        self._queries, self._items = queries, items
        self._ks, self._measures = ks, measures
        self._names, self._folder = names, folder

    def write(self, shard: int, parts: Iterable[Any]) -> None:
        """Writes the sums of a shard of queries."""
        ids, queries = self._queries.read(shard)
        check_queries(ids, shard, len(self._names))
        parts = list(parts)
        positives, excluded = (read_pairs(parts, n) for n in (_HELD_OUT, _EXCLUDED))
        recall = _recall_of(self._items, tuple(self._ks), tuple(self._measures))
        sums = np.zeros([len(recall.names), 2])
        num_queries = 0
        if positives is not None and len(ids):
            lists = positives(tf.constant(ids))
            has_some = np.flatnonzero(lists.row_lengths().numpy())
            num_queries = len(has_some)
            for rows in self._batches(
                tf.gather(lists, has_some), excluded, ids[has_some]
            ):
                at = has_some[rows]
                some = tf.constant(ids[at])
                found = recall.sums(
                    queries[at],
                    true_candidate_ids=positives(some),
                    excluded_ids=None if excluded is None else excluded(some),
                )
                sums += np.array(found)
        num_users = 0 if positives is None else positives.num_keys
        self._folder.write_json(
            self._names[shard],
            {
                "rows": len(ids),
                "queries": num_queries,
                "users_without_query": num_users - num_queries,
                "sums": dict(zip(recall.names, sums.tolist(), strict=True)),
            },
        )

    def _batches(
        self, positives: tf.RaggedTensor, excluded: Positives | None, ids: np.ndarray
    ) -> Iterable[slice]:
        """Slices of queries, of which those with long lists are few."""
        widths = positives.row_lengths().numpy()
        if excluded is not None:
            widths = widths + excluded(tf.constant(ids)).row_lengths().numpy()
        for start in range(0, len(ids), _BATCH):
            for piece in pieces(widths[start : start + _BATCH]):
                yield slice(start + piece.start, start + piece.stop)
