"""Recall of an export with popularity, by index and by the discount of the query.

    python -m benchmarks.index.discounts --cache ~/.cache/tfrs_negatives

The items and users of a two-tower model of Gowalla (that of `benchmarks.index.run`),
users' embeddings divided by the temperature, so that scores are logits, and popularity
as the items' counts. Each index is exported with and without popularity and asked by
its signature; the truth is `score - beta * log q(item)` by NumPy. Queries that
`recall_target` chooses by are others than those measured. The times are medians of the
CPU time of queries alone, with k = 10.
"""

import pathlib
import tempfile

import numpy as np
import tensorflow as tf

from benchmarks.common import command_line, costs, csv_rows
from benchmarks.common.clusters import clusters
from benchmarks.common.provenance import FIELDS as WHERE
from benchmarks.common.provenance import provenance
from tfrs_negatives.index import BruteForce, ScaNN, export_retrieval, load_retrieval

ROWS = pathlib.Path(__file__).with_name("discounts.csv")
PACKAGES = "tensorflow", "scann", "numpy"
FIELDS = "data index setting popularity discount recall_at_10 single_cpu_ms".split()
FIELDS += WHERE
DISCOUNTS = [0.0, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0]
K, NUM_MEASURED, NUM_SINGLE = 10, 1_500, 200


def gowalla(cache):
    """Candidates, queries whose scores are logits, and counts."""
    from benchmarks.index import corpora
    from benchmarks.problems import data_sets, id_towers

    candidates, queries = corpora.gowalla(cache)
    items = data_sets.load("gowalla").rows["item"]
    return (
        candidates,
        (queries / id_towers.TEMPERATURE).astype(np.float32),
        np.bincount(items, minlength=len(candidates)),
    )


def thousand(cache):
    """The same of points in clusters."""
    candidates, queries = clusters(1_000, 3_000)
    return candidates, queries / 10, 3_000 // np.arange(1, 1_001)


def best_rows(candidates, queries, log_q, discount):
    """The true best rows, in any order, by blocks of queries."""
    blocks = []
    for start in range(0, len(queries), 50):
        scores = discount * log_q - queries[start : start + 50] @ candidates.T
        # A view would keep all of it.
        blocks.append(np.argpartition(scores, K, axis=1)[:, :K].copy())
    return np.concatenate(blocks)


def measure(serve, queries, truth, given):
    """Recall, and the CPU time of a query alone."""
    k = tf.constant(K)
    found = serve(query=tf.constant(queries), k=k, **given)["ids"].numpy()
    pairs = zip(found, truth, strict=True)
    recall = np.mean([len(set(a) & set(b)) / K for a, b in pairs])
    singles = [tf.constant(queries[n : n + 1]) for n in range(NUM_SINGLE)]
    seconds = []
    for query in singles:
        start = costs.now()
        serve(query=query, k=k, **given)
        seconds.append(costs.since(start)[1])
    milliseconds = np.median(seconds) * 1e3
    return {"recall_at_10": f"{recall:.4f}", "single_cpu_ms": f"{milliseconds:.3f}"}


def rows_of(index, sets, truths):
    """Rows of an index without popularity, and with, by discount."""
    candidates, queries, counts = sets
    spec = tf.TensorSpec([None, candidates.shape[1]], name="query")
    for popularity in (None, counts):
        with tempfile.TemporaryDirectory() as folder:
            path = export_retrieval(
                pathlib.Path(folder) / "model",
                tf.identity,
                index,
                query_signature=spec,
                popularity=popularity,
            )
            model = load_retrieval(path)
        serve = model.signatures["serving_default"]
        for discount in DISCOUNTS if popularity is not None else [0.0]:
            given = {}
            if popularity is not None:
                given["popularity_discount"] = tf.constant([discount])
            row = {
                "popularity": "no" if popularity is None else "yes",
                "discount": discount,
            }
            yield row | measure(serve, queries, truths[discount], given)
        model.release()


def main():
    parser = command_line.parser(__doc__, ROWS, data=True)
    parser.add_argument(
        "--cache",
        type=pathlib.Path,
        default=pathlib.Path("~/.cache/tfrs_negatives"),
        help="folder of the trained model (default: %(default)s)",
    )
    parser.add_argument("--set", default="gowalla", choices=["gowalla", "thousand"])
    arguments = command_line.parse(parser, set="thousand")
    load = {"gowalla": gowalla, "thousand": thousand}[arguments.set]
    candidates, queries, counts = load(arguments.cache.expanduser())
    measured, others = queries[:NUM_MEASURED], queries[NUM_MEASURED:]
    log_q = np.log(np.maximum(counts, 1) / counts.sum()).astype(np.float32)
    truths = {
        discount: best_rows(candidates, measured, log_q, discount)
        for discount in DISCOUNTS
    }
    sample = {"sample_queries": others}
    indexes = [
        ("BruteForce", "", BruteForce(), {}),
        ("ScaNN", "", ScaNN(), {}),
        ("ScaNN", "recall_target=0.99", ScaNN(recall_target=0.99), sample),
        ("ScaNN", "recall_target=0.95", ScaNN(recall_target=0.95), sample),
    ]
    for name, setting, index, options in indexes:
        index.index(candidates, **options)
        for figures in rows_of(index, (candidates, measured, counts), truths):
            row = {"data": arguments.set, "index": name, "setting": setting} | figures
            csv_rows.show(row)
            csv_rows.append(arguments.output, FIELDS, row | provenance(PACKAGES))


if __name__ == "__main__":
    main()
