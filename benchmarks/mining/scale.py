"""Mining a million items: time, and how far memory grows beyond what the index holds.

    python benchmarks/mining/scale.py

Points around 100 centres, 64 wide. Each subject has a process of its own that builds
its index, notes its resident memory, has Linux forget the peak, and mines: 50 negatives
of ranks 101 to 500, 20 known positives a query. The first queries include tracing.
`matrix_mib` is what all scores at once would take, a float32 for each query and item.
"""

import argparse
import csv
import os
import pathlib
import re
import subprocess
import sys
import time

os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np

HERE = pathlib.Path(__file__).parent
sys.path.append(str(HERE.parent))

import csv_rows  # noqa: E402
from provenance import provenance  # noqa: E402

PACKAGES = "tensorflow", "tf-keras", "scann", "numpy"
FIELDS = (
    "subject num_items width num_queries build_seconds seconds cpu_seconds before_mib "
    "growth_mib matrix_mib device versions commit"
).split()
WIDTH, KNOWN, NUM_NEGATIVES, RANGE_MIN, RANGE_MAX = 64, 20, 50, 100, 500
SUBJECTS = "brute_force", "scann_ops_pybind"


def points(num_rows, seed):
    """[num_rows, WIDTH] float32 around centres as far apart as points are from them."""
    centres = np.random.default_rng(0).standard_normal((100, WIDTH), np.float32)
    rng = np.random.default_rng(seed)
    noise = rng.standard_normal((num_rows, WIDTH), np.float32)
    return noise + centres[rng.integers(len(centres), size=num_rows)]


def build(subject, items):
    if subject == "brute_force":
        from tfrs_negatives import index

        return index.BruteForce().index(items)
    from scann import scann_ops_pybind

    builder = scann_ops_pybind.builder(items, 10, "dot_product")
    builder = builder.tree(1000, 100, training_sample_size=100_000)
    return (
        builder.score_ah(2, anisotropic_quantization_threshold=0.2).reorder(500).build()
    )


def memory_mib(field):
    """`VmRSS`, what is resident now, or `VmHWM`, the most that was."""
    status = pathlib.Path("/proc/self/status").read_text()
    return int(re.search(rf"{field}:\s+(\d+) kB", status)[1]) / 1024


def measure(subject, num_items, num_queries):
    """Prints one row, but for where it was measured."""
    from tfrs_negatives import index

    items, queries = points(num_items, 1), points(num_queries, 2)
    known = np.random.default_rng(3).integers(num_items, size=(num_queries, KNOWN))
    start = time.perf_counter()
    built = build(subject, items)
    built_in = time.perf_counter() - start
    pathlib.Path("/proc/self/clear_refs").write_text("5")
    before, start, cpu = memory_mib("VmRSS"), time.perf_counter(), time.process_time()
    ids, _ = index.mine_hard_negatives(
        built,
        queries,
        NUM_NEGATIVES,
        positives=known,
        range_min=RANGE_MIN,
        range_max=RANGE_MAX,
        progress=False,
    )
    seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
    growth = memory_mib("VmHWM") - before
    if (ids.row_lengths().numpy() < NUM_NEGATIVES).any():
        raise SystemExit("Some rows are short: another amount of work.")
    row = {
        "subject": subject,
        "num_items": num_items,
        "width": WIDTH,
        "num_queries": num_queries,
        "build_seconds": f"{built_in:.1f}",
        "seconds": f"{seconds:.2f}",
        "cpu_seconds": f"{cpu:.2f}",
        "before_mib": f"{before:.0f}",
        "growth_mib": f"{growth:.0f}",
        "matrix_mib": f"{4 * num_queries * num_items / 2**20:.0f}",
    }
    csv.DictWriter(sys.stdout, FIELDS[: len(row)]).writerow(row)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=pathlib.Path, default=HERE / "scale.csv")
    parser.add_argument("--items", type=int, default=1_000_000)
    parser.add_argument("--queries", type=int, nargs="+", default=[1024, 4096])
    parser.add_argument("--subject", choices=SUBJECTS, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.subject:
        measure(arguments.subject, arguments.items, arguments.queries[0])
        return
    about, rows = provenance(PACKAGES), []
    for subject in SUBJECTS:
        for num_queries in arguments.queries:
            command = [sys.executable, __file__, "--subject", subject]
            command += ["--items", str(arguments.items), "--queries", str(num_queries)]
            result = subprocess.run(
                command, stdout=subprocess.PIPE, text=True, check=True
            )
            values = next(csv.reader(result.stdout.strip().splitlines()[-1:]))
            rows.append({**dict(zip(FIELDS, values, strict=False)), **about})
            print(rows[-1], flush=True)
    csv_rows.write(arguments.output, FIELDS, rows)


if __name__ == "__main__":
    main()
