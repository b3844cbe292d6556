"""One subject over one corpus, in a process of its own, evaluating when told to.

Prints one line of JSON when ready and one after every line it reads: wall and process
CPU seconds of an evaluation, by how many bytes peak memory has ever exceeded what was
in use before, and the measures.
"""

import json
import os
import sys
import time

import numpy as np
import tensorflow as tf

WIDTH, BATCH, CANDIDATE_BATCH = 64, 1000, 4096


def memory(field):
    """A memory figure of this process, in bytes: VmRSS now, VmHWM its peak."""
    with open("/proc/self/status") as status:
        for line in status:
            if line.startswith(field):
                return 1024 * int(line.split()[1])
    raise ValueError(f"no {field} in /proc/self/status")


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


def say(**figures):
    print(json.dumps(figures), flush=True)


def main(subject, num_queries, num_candidates):
    # Traces and loads what an evaluation needs.
    queries, candidates, rows = data(8, 200)
    metric = make_metric(subject, candidates)
    make_step(subject, metric)(queries, candidates[rows], rows)

    queries, candidates, rows = data(num_queries, num_candidates)
    metric = make_metric(subject, candidates)
    step = make_step(subject, metric)
    step.get_concrete_function()
    with open("/proc/self/clear_refs", "w") as refs:
        refs.write("5")  # Resets the peak to the present.
    before = memory("VmRSS")
    say(ready=True)
    for _ in sys.stdin:
        metric.reset_states()
        wall, cpu = time.perf_counter(), time.process_time()
        for start in range(0, num_queries, BATCH):
            some = rows[start : start + BATCH]
            step(queries[start : start + BATCH], candidates[some], some)
        values = [float(value) for value in metric.result()]
        say(
            wall=time.perf_counter() - wall,
            cpu=time.process_time() - cpu,
            growth=memory("VmHWM") - before,
            values=values,
        )


if __name__ == "__main__":
    # Libraries talk on standard output; only our lines may go there.
    out = os.dup(1)
    os.dup2(2, 1)
    sys.stdout = os.fdopen(out, "w")
    main(sys.argv[1], *map(int, sys.argv[2:]))
