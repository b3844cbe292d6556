"""One subject over one corpus, in a process of its own, evaluating when told to."""

import sys

import numpy as np
import tensorflow as tf

from benchmarks.common import worker

WIDTH, BATCH, CANDIDATE_BATCH = 64, 1000, 4096


def data(num_queries, num_candidates):
    """Queries that lean towards their positives, which are candidates."""
    rng = np.random.default_rng(0)
    candidates = rng.standard_normal((num_candidates, WIDTH), np.float32)
    rows = rng.integers(0, num_candidates, num_queries)
    queries = rng.standard_normal((num_queries, WIDTH), np.float32)
    return queries + np.float32(0.3) * candidates[rows], candidates, rows


def make_metric(subject, candidates):
    ids = np.arange(len(candidates))
    parts = (ids, candidates) if subject.endswith("by_id") else candidates
    dataset = tf.data.Dataset.from_tensor_slices(parts).batch(CANDIDATE_BATCH)
    if subject.startswith("tfrs"):
        import tensorflow_recommenders as tfrs

        return tfrs.metrics.FactorizedTopK(dataset)
    from tfrs_negatives.metrics import CorpusRecall

    measures = None
    if subject == "ours_all":
        measures = ["recall", "ndcg", "mrr", "hit_rate"]
    return CorpusRecall(dataset, measures=measures)


def make_step(subject, metric):
    @tf.function(
        input_signature=[
            tf.TensorSpec([None, WIDTH]),
            tf.TensorSpec([None, WIDTH]),
            tf.TensorSpec([None], tf.int64),
        ]
    )
    def step(queries, positives, rows):
        ids = rows if subject.endswith("by_id") else None
        metric.update_state(queries, positives, true_candidate_ids=ids)

    return step


def main(subject, num_queries, num_candidates):
    # Traces and loads what an evaluation needs.
    queries, candidates, rows = data(8, 200)
    metric = make_metric(subject, candidates)
    make_step(subject, metric)(queries, candidates[rows], rows)

    queries, candidates, rows = data(num_queries, num_candidates)
    metric = make_metric(subject, candidates)
    step = make_step(subject, metric)
    step.get_concrete_function()

    def evaluate():
        metric.reset_states()
        for start in range(0, num_queries, BATCH):
            some = rows[start : start + BATCH]
            step(queries[start : start + BATCH], candidates[some], some)
        return [float(value) for value in metric.result()]

    worker.answer(evaluate)


if __name__ == "__main__":
    worker.keep_output_clean()
    main(sys.argv[1], *map(int, sys.argv[2:]))
