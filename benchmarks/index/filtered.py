"""Filtered search by a `LiveIndex` and by faiss: recall and time by selectivity.

    OPENBLAS_NUM_THREADS=1 python -m benchmarks.index.filtered

The corpus is points in clusters, each with a price that has nothing to do with where it
lies. A filter `price < bound` lets a share of them pass. One query is asked after the
other, by one thread, each with its own bound, so that nobody can keep a mask. faiss is
given the mask as an `IDSelectorBitmap`, which is made for each query, as a `LiveIndex`
reads its filter for each query. Recall@10 is against exact search over what passes.

CPU time is of the process, over all queries; other work on the machine makes the
clock's times longer, and those of CPU a little.
"""

import pathlib
import tempfile

import numpy as np

from benchmarks.common import command_line, costs, csv_rows
from benchmarks.common.clusters import clusters
from benchmarks.common.provenance import FIELDS as WHERE
from benchmarks.common.provenance import provenance
from tfrs_negatives.index import LiveIndex

ROWS = pathlib.Path(__file__).with_name("filtered.csv")
PACKAGES = "scann", "faiss-cpu", "numpy"
FIELDS = "items index setting share recall_at_10 cpu_ms single_ms single_p99_ms".split()
K, WIDTH = 10, 64
SHARES = [0.5, 0.2, 0.1, 0.05, 0.02, 0.01, 0.005, 0.001]
PROBES = [8, 32, 128]


def live_searches(points, prices):
    """(index, setting, function from a query and a bound to numbers of items)."""
    for name, approximate_from in (("LiveIndex, ScaNN", 0), ("LiveIndex, exact", None)):
        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder, "index")
            with LiveIndex.create(
                path,
                range(len(points)),
                points,
                attributes={"price": prices},
                approximate_from=approximate_from,
            ) as index:

                def search(query, bound, index=index):
                    return index.search(query, K, f"price < {bound!r}").ids[0]

                yield name, "", search


def faiss_searches(points, prices):
    """The same of faiss."""
    import faiss

    faiss.omp_set_num_threads(1)

    def selector(bound):
        mask = np.packbits(prices < bound, bitorder="little")
        return mask, faiss.IDSelectorBitmap(len(prices), faiss.swig_ptr(mask))

    flat = faiss.IndexFlatIP(WIDTH)
    flat.add(points)

    def exact(query, bound):
        mask, chosen = selector(bound)
        wanted = faiss.SearchParameters(sel=chosen)
        return flat.search(query, K, params=wanted)[1][0]

    yield "faiss Flat", "", exact
    coarse = faiss.IndexFlatIP(WIDTH)
    leaves = round(len(points) ** 0.5)
    inverted = faiss.IndexIVFFlat(coarse, WIDTH, leaves, faiss.METRIC_INNER_PRODUCT)
    inverted.train(points)
    inverted.add(points)
    for nprobe in PROBES:

        def probe(query, bound, nprobe=nprobe):
            mask, chosen = selector(bound)
            wanted = faiss.SearchParametersIVF(sel=chosen, nprobe=nprobe)
            return inverted.search(query, K, params=wanted)[1][0]

        yield "faiss IVF-Flat", f"nprobe={nprobe}", probe


def measured(search, points, queries, prices, share):
    """Figures of a search at a share of items that pass."""
    rng = np.random.default_rng(0)
    # Bounds around the one that lets this share pass.
    shares = share * rng.uniform(0.95, 1.05, len(queries))
    bounds = np.quantile(prices, shares).tolist()
    found, times = [], []
    search(queries[:1], bounds[0])
    start = costs.now()
    for place, bound in enumerate(bounds):
        began = costs.now()
        found.append(search(queries[place : place + 1], bound))
        times.append(1e3 * costs.since(began)[0])
    cpu_ms = 1e3 * costs.since(start)[1] / len(bounds)
    return {
        "share": share,
        "recall_at_10": f"{recall(found, points, queries, prices, bounds):.4f}",
        "cpu_ms": f"{cpu_ms:.3f}",
        "single_ms": f"{np.median(times):.3f}",
        "single_p99_ms": f"{np.quantile(times, 0.99):.3f}",
    }


def recall(found, points, queries, prices, bounds):
    """Mean share of the best that pass which was found."""
    shares = []
    for place, (ids, bound) in enumerate(zip(found, bounds, strict=True)):
        passing = np.flatnonzero(prices < bound)
        scores = points[passing] @ queries[place]
        k = min(K, len(passing))
        best = passing[np.argpartition(-scores, k - 1)[:k]]
        shares.append(len(set(best.tolist()) & set(np.asarray(ids).tolist())) / k)
    return float(np.mean(shares))


def main():
    parser = command_line.parser(__doc__, ROWS)
    parser.add_argument("--num-items", type=int, default=200_000)
    parser.add_argument("--queries", type=int, default=300)
    arguments = command_line.parse(parser, num_items=5_000, queries=20)
    points, queries = clusters(arguments.num_items, arguments.queries, WIDTH)
    prices = np.random.default_rng(1).random(arguments.num_items)
    about, rows = provenance(PACKAGES), []
    for searches in (live_searches, faiss_searches):
        for index, setting, search in searches(points, prices):
            for share in SHARES:
                figures = measured(search, points, queries, prices, share)
                row = {
                    "items": arguments.num_items,
                    "index": index,
                    "setting": setting,
                    **figures,
                }
                csv_rows.show(row)
                rows.append({**row, **about})
    csv_rows.write(arguments.output, FIELDS + WHERE, rows)


if __name__ == "__main__":
    main()
