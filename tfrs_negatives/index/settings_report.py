"""What settings of an index are worth: recall, latency and memory, measured."""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from tfrs_negatives._checks import check_at_least
from tfrs_negatives.index.brute_force import BruteForce
from tfrs_negatives.index.checked_embeddings import checked_candidates, checked_queries
from tfrs_negatives.index.recall_sample import RecallSample, lower_bound
from tfrs_negatives.index.scann import ScaNN
from tfrs_negatives.types import TensorLike

_ROUNDS, _NUM_SINGLE = 5, 200


def quality_report(
    candidates: TensorLike,
    queries: TensorLike,
    settings: Iterable[Mapping[str, Any]] = ({},),
    k: int = 10,
) -> list[dict[str, Any]]:
    """Measures exact search, and `ScaNN` with each of several settings.

    One half of the queries is measured. `recall_target` chooses its settings by the
    other half, so that they are not judged by the queries that they were made for.
    Each index is built, queried eagerly, and dropped before the next one.

    Args:
      candidates: `[N, d]` embeddings.
      queries: `[Q, d]` embeddings, at least 2; a thousand or more give a standard
        error of recall below .01.
      settings: Arguments of `ScaNN`, one dict for each index.
      k: How many candidates to ask for.

    Returns:
      A list of dicts, exact search first:

      * `index`: "BruteForce" or "ScaNN", and `settings`: the arguments given.
      * `recall`: mean recall@k (a candidate that scores as much as the k-th best is
        as good), and `recall_at_least`: the lower end of its one-sided 95% interval.
      * `single_ms` and `single_p99_ms`: median and 99th percentile time of a query
        alone.
      * `queries_per_second`: in batches of all measured queries.
      * `mebibytes`: size of the index's variables, which is what an export holds.
      * `build_seconds`.
      * `searched`: what the index made of the settings, e.g. its number of leaves.

    Raises:
      ValueError: for candidates or queries that `index` refuses, fewer than two
        queries, k above N, and settings that `ScaNN` refuses.
    """
    candidates = checked_candidates(candidates)
    queries = checked_queries(queries, candidates.shape[1])
    if len(queries) < 2:
        raise ValueError("`queries` must be 2 or more, received 1. Draw more.")
    check_at_least("k", k, 1)
    if k > len(candidates):
        raise ValueError(
            f"`k` must be at most the number of candidates ({len(candidates)}), "
            f"received {k}."
        )
    settings = list(settings)
    for given in settings:
        if "k" in given:
            raise ValueError(
                "`settings` are asked for the `k` of the report, received "
                f"{given!r}. Leave its k out, and give it as `k`."
            )
        _make(given, k)  # Refuses bad arguments before anything is built.
    half = len(queries) // 2
    sample = RecallSample(queries[half:], candidates, k)
    rows = []
    for one in (None, *settings):
        rows.append(_row(one, candidates, queries[:half], sample))
        # Keras' objects refer to each other: without this, all indexes would be held.
        gc.collect()
    return rows


def _make(given: Mapping[str, Any] | None, k: int) -> BruteForce | ScaNN:
    return BruteForce(k=k) if given is None else ScaNN(k=k, **given)


def _row(
    given: Mapping[str, Any] | None,
    candidates: tf.Tensor,
    others: tf.Tensor,
    sample: RecallSample,
) -> dict[str, Any]:
    """A row of the report; `given` is None for exact search."""
    index, chosen_by = _make(given, sample.k), {}
    if given and given.get("recall_target") is not None:
        chosen_by["sample_queries"] = others
    start = time.perf_counter()
    index.index(candidates, **chosen_by)
    seconds = time.perf_counter() - start
    return {
        "index": type(index).__name__,
        "settings": dict(given or {}),
        **_measure(index, sample),
        "build_seconds": seconds,
    }


def _measure(index: BruteForce | ScaNN, sample: RecallSample) -> dict[str, Any]:
    recalls = sample.recalls(index(sample.queries, k=sample.k)[1])
    batch = [_seconds(index, sample.queries) for _ in range(_ROUNDS)]
    one = [sample.queries[i : i + 1] for i in range(len(sample.queries))][:_NUM_SINGLE]
    for query in one[:20]:
        _seconds(index, query)
    single = [_seconds(index, query) * 1e3 for query in one]
    return {
        "recall": float(np.mean(recalls)),
        "recall_at_least": lower_bound(recalls),
        "single_ms": statistics.median(single),
        "single_p99_ms": float(np.quantile(single, 0.99)),
        "queries_per_second": len(sample.queries) / statistics.median(batch),
        "mebibytes": index.searcher.num_bytes() / 2**20,
        "searched": index.searcher.settings(),
    }


def _seconds(index: BruteForce | ScaNN, queries: tf.Tensor) -> float:
    start = time.perf_counter()
    index(queries)[1].numpy()
    return time.perf_counter() - start
