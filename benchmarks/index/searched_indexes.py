"""The indexes that are compared: ours, faiss and hnswlib, each at several settings.

Each builder takes candidates and queries and yields triples of a setting's name, the
seconds that building took and a function from queries to the K rows it finds.
"""

import gc
import tempfile

import numpy as np

from benchmarks.common import costs

K, THREADS, NUM_MEASURED = 10, 2, 2_000
TARGETS = (0.7, 0.8, 0.9, 0.95, 0.98, 0.99, 0.999)
BREADTHS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)
EF = (10, 20, 40, 80, 160, 320, 640)


def brute_force(candidates, queries):
    from tfrs_negatives.index import BruteForce

    index, seconds = built(lambda: BruteForce(k=K).index(candidates))
    yield "exact", seconds, tensorflow_search(index)


def scann(storage):
    def subject(candidates, queries):
        from tfrs_negatives.index import ScaNN

        # Other queries than those that are measured.
        sample = queries[NUM_MEASURED:]
        for target in (None, *TARGETS):
            index = ScaNN(k=K, storage=storage, recall_target=target)
            given = {} if target is None else {"sample_queries": sample}
            try:
                index, seconds = built(
                    lambda index=index, given=given: index.index(candidates, **given)
                )
            except ValueError as error:
                print(f"    {error}", flush=True)
                continue
            name = "default" if target is None else f"recall_target={target}"
            yield name, seconds, tensorflow_search(index)
            index = None
            gc.collect()

    return subject


def live_index(soar_lambda):
    def subject(candidates, queries):
        from tfrs_negatives.index import LiveIndex

        with tempfile.TemporaryDirectory(prefix="live_") as folder:
            index, seconds = built(
                lambda: LiveIndex.create(
                    folder,
                    np.arange(len(candidates)),
                    candidates,
                    soar_lambda=soar_lambda,
                    approximate_from=0,
                )
            )
            yield "default", seconds, lambda queries: index.search(queries, K).ids
            # It has no setting for that: its users get the default.
            searcher = index._state.approximate
            for leaves in BREADTHS:
                searcher._leaves_to_search = leaves
                name = f"leaves={leaves}"
                yield name, seconds, lambda queries: index.search(queries, K).ids
            index.close()

    return subject


def tensorflow_search(index):
    import tensorflow as tf

    return lambda queries: index(tf.constant(queries))[1].numpy()


def faiss_ivf(candidates, queries):
    import faiss

    faiss.omp_set_num_threads(THREADS)
    num_rows, width = candidates.shape

    def build():
        coarse = faiss.IndexFlatIP(width)
        leaves = round(num_rows**0.5)
        index = faiss.IndexIVFFlat(coarse, width, leaves, faiss.METRIC_INNER_PRODUCT)
        index.train(candidates)
        index.add(candidates)
        return index

    index, seconds = built(build)
    for breadth in BREADTHS:
        if breadth < index.nlist:
            index.nprobe = breadth
            yield f"nprobe={breadth}", seconds, lambda q: index.search(q, K)[1]


def faiss_hnsw(candidates, queries):
    import faiss

    faiss.omp_set_num_threads(THREADS)

    def build():
        index = faiss.IndexHNSWFlat(candidates.shape[1], 32, faiss.METRIC_INNER_PRODUCT)
        index.add(candidates)
        return index

    index, seconds = built(build)
    for breadth in EF:
        index.hnsw.efSearch = breadth
        yield f"efSearch={breadth}", seconds, lambda q: index.search(q, K)[1]


def hnswlib(candidates, queries):
    import hnswlib as library

    def build():
        index = library.Index("ip", candidates.shape[1])
        index.init_index(len(candidates), ef_construction=200, M=16)
        index.set_num_threads(THREADS)
        index.add_items(candidates)
        return index

    index, seconds = built(build)
    for breadth in EF:
        index.set_ef(breadth)
        yield f"ef={breadth}", seconds, lambda q: index.knn_query(q, K)[0]


def built(build):
    """What was built, and the seconds that it took."""
    start = costs.now()
    return build(), costs.since(start)[0]


INDEXES = {
    "BruteForce": brute_force,
    "ScaNN": scann("float32"),
    "ScaNN int8": scann("int8"),
    "LiveIndex": live_index(None),
    "LiveIndex, SOAR": live_index(1.5),
    "faiss IVF-Flat": faiss_ivf,
    "faiss HNSW32": faiss_hnsw,
    "hnswlib M16": hnswlib,
}
