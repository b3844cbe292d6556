"""Recall against queries per second: our indexes, faiss and hnswlib.

    pip install -e '.[demo,scann]' -r benchmarks/index/requirements.txt
    python -m benchmarks.index.run --cache ~/.cache/tfrs_negatives

Searches the candidates of a two-tower model of Gowalla, which is trained when
`--cache` does not hold it, and a million points in clusters. Each index is built and
queried in a process of its own, with two threads everywhere, and its rows are added to
the CSV; an index that the CSV holds is not measured again. The middle of five rounds
counts. `plot.py` draws the figure.
"""

import pathlib
import subprocess
import tempfile

import numpy as np

from benchmarks.common import command_line, costs, csv_rows
from benchmarks.common.provenance import FIELDS as WHERE
from benchmarks.common.provenance import PROJECT, provenance
from benchmarks.common.worker_process import module_command
from benchmarks.index.corpora import load
from benchmarks.index.searched_indexes import INDEXES, NUM_MEASURED, K

ROWS = pathlib.Path(__file__).with_name("results.csv")
PACKAGES = "tfrs_negatives", "tensorflow", "scann", "faiss-cpu", "hnswlib", "numpy"
FIELDS = (
    "data index setting recall_at_10 single_ms single_cpu_ms batch_qps batch_cpu_ms "
    "build_s peak_mib"
).split() + WHERE
TRUTH = "{}_best_rows.npy"
ROUNDS, NUM_SINGLE = 5, 500


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
    start = costs.now()
    call()
    return costs.since(start)


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


def work(name, index_name, output, cache):
    """Measures one index and adds its rows to the CSV."""
    candidates, queries = load(name, cache)
    # ScaNN may choose its settings by the others.
    measured = queries[:NUM_MEASURED]
    truth, rows = np.load(cache / TRUTH.format(name)), []
    for setting, seconds, search in INDEXES[index_name](candidates, queries):
        peak = int(costs.peak_mib())
        row = {"data": name, "index": index_name, "setting": setting}
        row |= measure(search, measured, truth)
        row |= {"build_s": f"{seconds:.1f}", "peak_mib": peak}
        csv_rows.show(row)
        rows.append({**row, **provenance(PACKAGES)})
        search = None  # The next index is built without this one in memory.
    for row in rows:
        csv_rows.append(output, FIELDS, row)


def main():
    parser = command_line.parser(__doc__, ROWS, data=True)
    parser.add_argument(
        "--cache",
        type=pathlib.Path,
        default=pathlib.Path("~/.cache/tfrs_negatives"),
        help="folder of the trained model (default: %(default)s)",
    )
    parser.add_argument("--sets", nargs="+", default=["gowalla", "million"])
    parser.add_argument("--indexes", nargs="+", default=list(INDEXES))
    parser.add_argument("--here", action="store_true", help="no process per index")
    arguments = command_line.parse(
        parser, sets=["thousand"], cache=pathlib.Path(tempfile.gettempdir())
    )
    cache, output = (p.expanduser() for p in (arguments.cache, arguments.output))
    done = {(r["data"], r["index"]) for r in csv_rows.read(output)}
    for name in arguments.sets:
        if not (cache / TRUTH.format(name)).exists():
            candidates, queries = load(name, cache)
            cache.mkdir(parents=True, exist_ok=True)
            truth = best_rows(candidates, queries[:NUM_MEASURED])
            np.save(cache / TRUTH.format(name), truth)
        for index_name in arguments.indexes:
            if (name, index_name) in done:
                continue
            if arguments.here:
                work(name, index_name, output, cache)
                continue
            print(f"{name}, {index_name}", flush=True)
            words = ["--here", "--sets", name, "--indexes", index_name]
            words += ["--output", output.resolve(), "--cache", cache.resolve()]
            command = module_command("benchmarks.index.run", *words)
            subprocess.run(command, check=True, cwd=PROJECT)


if __name__ == "__main__":
    main()
