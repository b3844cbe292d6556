"""A `LiveIndex` while it changes: updates a second, recall, latency, filters.

    OPENBLAS_NUM_THREADS=1 python -m benchmarks.index.live
    OPENBLAS_NUM_THREADS=1 python -m benchmarks.index.live --only filters \
        --num-items 200000
    OPENBLAS_NUM_THREADS=1 python -m benchmarks.index.live --only load --readers 64 \
        --seconds 30

The others measure filters alone, and queries under upserts alone, and add their rows to
those that are there.
The corpus is points in clusters. First its changes are timed: of one item a call, of
100, and of one item a call from 8 threads. Then it is changed by 10%, 50% and 200%,
each time one half replaced items and one half new ones, with as many deleted as are
new; recall@10 is against exact search over what is there. Filters let pass a share of
the items that has nothing to do with the queries. At last queries and upserts run at
the same time: `--readers` threads ask one query after the other, with and without
`--rate` upserts a second. Only the medians and percentiles are comparable with other
runs, since the disk and the cores are shared.

Each search is by ScaNN and exact over what is newer ("scann"), or exact over all
("exact").
"""

import os
import pathlib
import shutil
import tempfile
import threading
import time

import numpy as np

from benchmarks.common import command_line, costs, csv_rows
from benchmarks.common.clusters import clusters
from benchmarks.common.provenance import FIELDS as WHERE
from benchmarks.common.provenance import provenance
from tfrs_negatives.index import LiveIndex

ROWS = pathlib.Path(__file__).with_name("live.csv")
PACKAGES = "scann", "numpy"
FIELDS = "items search blas_threads measure setting value".split() + WHERE
K, WIDTH, NUM_SINGLE = 10, 64, 500
PER_CALL = 10  # Items of an upsert beside queries.
SHARES = [0.5, 0.2, 0.1, 0.01, 0.001]


class Corpus:
    """A live index and what it should hold."""

    def __init__(self, path, items, approximate_from):
        self.path, self.rng = path, np.random.default_rng(0)
        # Changed items are points of the same clusters.
        points, self.queries = clusters(4 * items, 1_000, WIDTH)
        self._points, self._next = points, items
        self.vectors = dict(enumerate(points[:items]))
        self.index = LiveIndex.create(
            path,
            range(items),
            points[:items],
            **self._columns(items),
            approximate_from=approximate_from,
        )

    def _columns(self, size):
        titles = [f"title {place}" for place in range(size)]
        price = self.rng.random(size)
        return {"payload": {"title": titles}, "attributes": {"price": price}}

    def upsert(self, ids):
        """Puts other points in the place of items, or adds items."""
        vectors = self._points[self.rng.integers(0, len(self._points), len(ids))]
        self.index.upsert(ids, vectors, **self._columns(len(ids)))
        self.vectors.update(zip(ids, vectors, strict=True))

    def change(self, number):
        """Changes `number` items, 100 a call."""
        while number > 0:
            size = min(50, number)
            ids = list(self.vectors)
            self.upsert(self.rng.choice(ids, size, replace=False).tolist())
            self.upsert(list(range(self._next, self._next + size)))
            self._next += size
            gone = self.rng.choice(ids, size, replace=False).tolist()
            self.index.delete(gone)
            for each in gone:
                del self.vectors[each]
            number -= 2 * size

    def recall(self, where=None, passing=None):
        """Recall@10 over the queries among the items that pass."""
        ids = list(self.vectors) if passing is None else passing
        matrix = np.stack([self.vectors[each] for each in ids])
        found = self.index.search(self.queries, K, where).scores
        k, shares = found.shape[1], []
        for start in range(0, len(self.queries), 50):
            scores = self.queries[start : start + 50] @ matrix.T
            # Some points were drawn twice: either is as good.
            last = np.partition(scores, -k, axis=1)[:, -k, np.newaxis]
            shares += np.mean(found[start : start + 50] >= last - 1e-4, axis=1).tolist()
        return float(np.mean(shares))

    def single_ms(self, where=None):
        """Median and 99th percentile of queries alone, in milliseconds."""
        times = []
        for place in range(NUM_SINGLE):
            query = self.queries[place : place + 1]
            start = costs.now()
            self.index.search(query, K, where)
            times.append(1e3 * costs.since(start)[0])
        return float(np.median(times)), float(np.quantile(times, 0.99))


def settled(index):
    """Waits until no compaction runs."""
    while any(thread.name == "compaction" for thread in threading.enumerate()):
        time.sleep(0.01)


def updates(corpus, seconds):
    """Items a second: (setting, value)."""
    ids = list(corpus.vectors)

    def rate(size, num_threads):
        counts = [0] * num_threads
        stop = time.perf_counter() + seconds

        def write(place):
            rng = np.random.default_rng(place)
            vectors, columns = corpus.queries[:size], corpus._columns(size)
            while time.perf_counter() < stop:
                chosen = rng.choice(ids, size, replace=False).tolist()
                corpus.index.upsert(chosen, vectors, **columns)
                counts[place] += size

        threads = [threading.Thread(target=write, args=[t]) for t in range(num_threads)]
        start = time.perf_counter()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return sum(counts) / (time.perf_counter() - start)

    for setting, size, num_threads in (
        ("one a call", 1, 1),
        ("one a call, 8 threads", 1, 8),
        ("100 a call", 100, 1),
    ):
        settled(corpus.index)
        yield setting, rate(size, num_threads)
    # As it was.
    for start in range(0, len(ids), 1_000):
        corpus.upsert(ids[start : start + 1_000])
    settled(corpus.index)
    corpus.index.compact()


def under_load(corpus, num_readers, rate, seconds):
    """(setting, p50, p99, queries and upserts a second) of queries and upserts."""
    ids, points = np.array(list(corpus.vectors)), corpus._points
    for upserts in (0, rate):
        stop, times, failed = threading.Event(), [[] for _ in range(num_readers)], []

        def read(own, first, stop=stop, failed=failed):
            try:
                place = first
                while not stop.is_set():
                    place = (place + 1) % len(corpus.queries)
                    start = time.perf_counter()
                    corpus.index.search(corpus.queries[place : place + 1], K)
                    own.append(time.perf_counter() - start)
            except BaseException as error:
                failed.append(error)

        threads = [
            threading.Thread(target=read, args=[own, 7 * n])
            for n, own in enumerate(times)
        ]
        changes = [
            (
                ids[corpus.rng.choice(len(ids), PER_CALL, replace=False)].tolist(),
                points[corpus.rng.integers(0, len(points), PER_CALL)],
                corpus._columns(PER_CALL),
            )
            for _ in range(int(upserts * seconds) // PER_CALL)
        ]
        for thread in threads:
            thread.start()
        start = time.perf_counter()
        for number, (chosen, vectors, columns) in enumerate(changes):
            early = start + number * PER_CALL / upserts - time.perf_counter()
            time.sleep(max(0, early))
            corpus.index.upsert(chosen, vectors, **columns)
        time.sleep(max(0, start + seconds - time.perf_counter()))
        passed = time.perf_counter() - start
        stop.set()
        for thread in threads:
            thread.join()
        if failed:
            raise failed[0]
        taken = 1e3 * np.concatenate(times)
        setting = f"{num_readers} readers, {upserts} upserts a second"
        yield (
            setting,
            {
                "p50_ms": np.median(taken),
                "p99_ms": np.quantile(taken, 0.99),
                "queries_per_second": len(taken) / passed,
                "upserts_per_second": len(changes) * PER_CALL / passed,
            },
        )


def measured(corpus, arguments):
    """(measure, setting, value) of one index."""
    for setting, value in updates(corpus, arguments.seconds):
        yield "updates_per_second", setting, round(value)
    before = 0
    for percent in (0, 10, 50, 200):
        corpus.change((percent - before) * arguments.num_items // 100)
        before = percent
        median, high = corpus.single_ms()
        yield "recall_at_10", f"{percent}% changed", f"{corpus.recall():.4f}"
        yield "single_ms", f"{percent}% changed", f"{median:.3f}"
        yield "single_p99_ms", f"{percent}% changed", f"{high:.3f}"
        newer = corpus.index.statistics()["changed"]
        yield "changed_since_compaction", f"{percent}% changed", newer
    settled(corpus.index)
    yield from filtered(corpus)
    yield from loaded(corpus, arguments)


def loaded(corpus, arguments):
    """(measure, setting, value) of queries, without upserts and with them."""
    for setting, figures in under_load(
        corpus, arguments.readers, arguments.rate, arguments.seconds
    ):
        for measure, value in figures.items():
            yield measure, setting, f"{value:.3f}"


def filtered(corpus):
    """(measure, setting, value) of filters, after a compaction."""
    prices = prices_of(corpus)
    corpus.index.compact()
    for share in SHARES:
        bound = float(np.quantile(list(prices.values()), share))
        where = f"price < {bound!r}"
        passing = [each for each, price in prices.items() if price < bound]
        median, high = corpus.single_ms(where)
        setting = f"filter that lets {100 * share:g}% pass"
        yield "recall_at_10", setting, f"{corpus.recall(where, passing):.4f}"
        yield "single_ms", setting, f"{median:.3f}"
        yield "single_p99_ms", setting, f"{high:.3f}"


def prices_of(corpus):
    """The price of each item, which is drawn anew and put in."""
    ids = list(corpus.vectors)
    prices = corpus.rng.random(len(ids))
    for start in range(0, len(ids), 1_000):
        block = slice(start, start + 1_000)
        corpus.index.upsert(
            ids[block],
            np.stack([corpus.vectors[each] for each in ids[block]]),
            {"title": [f"title {each}" for each in ids[block]]},
            {"price": prices[block]},
        )
    settled(corpus.index)
    return dict(zip(ids, prices.tolist(), strict=True))


def main():
    parser = command_line.parser(__doc__, ROWS)
    parser.add_argument("--num-items", type=int, default=20_000)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--readers", type=int, default=4)
    parser.add_argument("--rate", type=int, default=1_000)
    parser.add_argument("--only", choices=["filters", "load"])
    parser.add_argument("--folder", help="where the indexes are put; its disk counts")
    arguments = command_line.parse(parser, num_items=2_000, seconds=0.5)
    about = provenance(PACKAGES)
    threads = os.environ.get("OPENBLAS_NUM_THREADS", "all")
    rows = []
    for search, approximate_from in (("scann", 0), ("exact", None)):
        path = tempfile.mkdtemp(prefix="live_", dir=arguments.folder)
        corpus = Corpus(path, arguments.num_items, approximate_from)
        if arguments.only == "filters":
            figures = filtered(corpus)
        elif arguments.only == "load":
            figures = loaded(corpus, arguments)
        else:
            figures = measured(corpus, arguments)
        for measure, setting, value in figures:
            row = {
                "items": arguments.num_items,
                "search": search,
                "blas_threads": threads,
                "measure": measure,
                "setting": setting,
                "value": value,
            }
            csv_rows.show(row)
            rows.append({**row, **about})
        corpus.index.close()
        shutil.rmtree(path)
    if arguments.only:
        for row in rows:
            csv_rows.append(arguments.output, FIELDS, row)
    else:
        csv_rows.write(arguments.output, FIELDS, rows)


if __name__ == "__main__":
    main()
