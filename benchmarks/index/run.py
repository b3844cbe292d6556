"""Recall against queries per second: our indexes, faiss and hnswlib.

    pip install -e '.[demo]' -r benchmarks/index/requirements.txt
    python benchmarks/index/run.py --cache ~/.cache/tfrs_negatives

Searches the candidates of a two-tower model of Gowalla, which is trained when
`--cache` does not hold it (TFRS_NEGATIVES_DATA names the folder of `gowalla.npz`),
and a million points in clusters. Each index is built and queried in a process of its
own, with two threads everywhere, and its rows are added to the CSV; an index that the
CSV holds is not measured again. The middle of five rounds counts. `plot.py` draws the
figure.
"""

import argparse
import gc
import os
import pathlib
import resource
import subprocess
import sys
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
from corpora import load

HERE = pathlib.Path(__file__).parent
sys.path.append(str(HERE.parent))

import csv_rows  # noqa: E402
from provenance import provenance  # noqa: E402

PACKAGES = "tfrs_negatives", "tensorflow", "scann", "faiss-cpu", "hnswlib", "numpy"
FIELDS = (
    "data index setting recall_at_10 single_ms single_cpu_ms batch_qps batch_cpu_ms "
    "build_s peak_mib device versions commit"
).split()
TRUTH = "{}_best_rows.npy"
K, THREADS, ROUNDS, NUM_SINGLE, NUM_MEASURED = 10, 2, 5, 500, 2_000
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


SUBJECTS = {
    "BruteForce": brute_force,
    "ScaNN": scann("float32"),
    "ScaNN int8": scann("int8"),
    "faiss IVF-Flat": faiss_ivf,
    "faiss HNSW32": faiss_hnsw,
    "hnswlib M16": hnswlib,
}


def built(build):
    start = time.perf_counter()
    return build(), time.perf_counter() - start


def best_rows(candidates, queries):
    """The true best rows, in any order, by blocks of queries."""
    blocks = []
    for start in range(0, len(queries), 50):
        scores = -queries[start : start + 50] @ candidates.T
        # A view would keep all of it.
        blocks.append(np.argpartition(scores, K, axis=1)[:, :K].copy())
    return np.concatenate(blocks)


def seconds_of(call):
    """Wall and process CPU seconds."""
    wall, cpu = time.perf_counter(), time.process_time()
    call()
    return time.perf_counter() - wall, time.process_time() - cpu


def measure(search, queries, truth):
    """Recall and times of one setting."""
    found = np.asarray(search(queries))
    pairs = zip(found, truth, strict=True)
    recall = np.mean([len(set(a) & set(b)) / K for a, b in pairs])
    for row in range(20):
        search(queries[row : row + 1])
    batch, single = [], []
    for _ in range(ROUNDS):
        batch.append(seconds_of(lambda: search(queries)))
        single += [
            seconds_of(lambda row=row: search(queries[row : row + 1]))
            for row in range(NUM_SINGLE // ROUNDS)
        ]
    batch, single = np.median(batch, axis=0), np.median(single, axis=0)
    return {
        "recall_at_10": f"{recall:.4f}",
        "single_ms": f"{single[0] * 1e3:.4f}",
        "single_cpu_ms": f"{single[1] * 1e3:.4f}",
        "batch_qps": f"{len(queries) / batch[0]:.0f}",
        "batch_cpu_ms": f"{batch[1] * 1e3:.1f}",
    }


def work(data, subject, output, cache):
    """Measures one index and adds its rows to the CSV."""
    candidates, queries = load(data, cache)
    # ScaNN may choose its settings by the others.
    measured = queries[:NUM_MEASURED]
    truth, rows = np.load(cache / TRUTH.format(data)), []
    for setting, seconds, search in SUBJECTS[subject](candidates, queries):
        usage = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        row = {"data": data, "index": subject, "setting": setting}
        row |= measure(search, measured, truth)
        row |= {"build_s": f"{seconds:.1f}", "peak_mib": usage // 1024}
        print("  " + " ".join(map(str, row.values())), flush=True)
        rows.append({**row, **provenance(PACKAGES)})
        search = None  # The next index is built without this one in memory.
    for row in rows:
        csv_rows.append(output, FIELDS, row)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=pathlib.Path, default=HERE / "results.csv")
    parser.add_argument("--cache", type=pathlib.Path, required=True)
    parser.add_argument("--data", nargs="+", default=["gowalla", "million"])
    parser.add_argument("--indexes", nargs="+", default=list(SUBJECTS))
    parser.add_argument("--here", action="store_true", help="no process per index")
    arguments = parser.parse_args()

    done = {(r["data"], r["index"]) for r in csv_rows.read(arguments.output)}
    for data in arguments.data:
        if not (arguments.cache / TRUTH.format(data)).exists():
            candidates, queries = load(data, arguments.cache)
            truth = best_rows(candidates, queries[:NUM_MEASURED])
            np.save(arguments.cache / TRUTH.format(data), truth)
        for subject in arguments.indexes:
            if (data, subject) in done:
                continue
            if arguments.here:
                work(data, subject, arguments.output, arguments.cache)
                continue
            print(f"{data}, {subject}", flush=True)
            command = [sys.executable, __file__, "--here", "--data", data]
            command += ["--indexes", subject, "--output", str(arguments.output)]
            subprocess.run([*command, "--cache", str(arguments.cache)], check=True)


if __name__ == "__main__":
    main()
