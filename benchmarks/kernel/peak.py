"""How near the parts of a block come to what the processor can do.

    python -m benchmarks.kernel.peak

The three matrix products of a block, with and without log q in the first, its softmax,
and for comparison a large square product, by TensorFlow (oneDNN) and by NumPy
(OpenBLAS), and one addition to each score, the least that a pass over them costs. They
take turns. Rows say GFLOP/s and the share of the faster large product's; of passes,
nanoseconds a score and the ratio to the addition.
"""

import pathlib

import numpy as np
import tensorflow as tf

from benchmarks.common import command_line, csv_rows
from benchmarks.common.provenance import FIELDS as WHERE
from benchmarks.common.provenance import provenance
from benchmarks.common.turns import alternate, medians
from tfrs_negatives.losses.block_sizes import rows_of_block

ROWS = pathlib.Path(__file__).with_name("peak.csv")
PACKAGES = "tensorflow", "numpy"
FIELDS = (
    "part rows columns width turns wall_ms cpu_ms gflops_a_second share_of_peak "
    "ns_a_score over_addition"
).split() + WHERE
PRODUCTS = "scores", "scores less log q", "queries' gradient", "candidates' gradient"


def parts(columns, width):
    """Functions of one block by name, and its rows. Each ends in a scalar."""
    rows = rows_of_block(columns, columns)
    rng = np.random.default_rng(0)

    def normal(*shape):
        return tf.constant(rng.normal(size=shape), tf.float32)

    queries, candidates = normal(rows, width), normal(columns, width)
    scores, log_q = normal(rows, columns), normal(columns)
    computed = {
        "scores": lambda: tf.matmul(queries, candidates, transpose_b=True),
        "scores less log q": lambda: tf.nn.bias_add(
            tf.matmul(queries, candidates, transpose_b=True), log_q
        ),
        "queries' gradient": lambda: tf.matmul(scores, candidates),
        "candidates' gradient": lambda: tf.matmul(queries, scores, transpose_a=True),
        "softmax": lambda: tf.nn.softmax(scores),
        "addition": lambda: scores + log_q[0],
    }
    return {name: _looped(each) for name, each in computed.items()}, rows


def _looped(compute, times=20):
    """`compute`, that often in one graph, which computes nothing beforehand."""

    @tf.function
    def run():
        total = tf.zeros([])
        for _ in tf.range(times):
            # What depends on the last turn is not taken out of the loop.
            with tf.control_dependencies([total]):
                total += tf.reshape(compute(), [-1])[0]
        return total

    def call():
        return float(run())

    return call, times


def large_products(size):
    """One square product, by both libraries."""
    square = np.random.default_rng(0).normal(size=[size, size]).astype(np.float32)
    tensor = tf.constant(square)
    product = tf.function(lambda: tf.matmul(tensor, tensor)[0, 0])
    return {
        "large product": (lambda: float(product()), 1),
        "large product, NumPy": (lambda: float((square @ square)[0, 0]), 1),
    }


def measure(columns, width, size, seconds):
    """Rows of the table for one shape."""
    of_block, rows = parts(columns, width)
    large = large_products(size)
    functions = {**of_block, **large}
    calls = {name: call for name, (call, _) in functions.items()}
    taken = alternate(calls, seconds)
    each = {name: times / functions[name][1] for name, times in taken.items()}
    flops = {name: 2 * rows * columns * width for name in PRODUCTS}
    flops |= {name: 2 * size**3 for name in large}
    speeds = {name: flops[name] / np.median(each[name][:, 0]) for name in flops}
    peak = max(speeds.values())
    addition = np.median(each["addition"][:, 0])
    for name, times in each.items():
        shape = (size, size, size) if name in large else (rows, columns, width)
        row = {
            "part": name,
            **dict(zip(("rows", "columns", "width"), shape, strict=True)),
            **medians(times, 4),
        }
        if name in speeds:
            row["gflops_a_second"] = round(speeds[name] / 1e9, 1)
            row["share_of_peak"] = round(speeds[name] / peak, 3)
        else:
            wall = np.median(times[:, 0])
            row["ns_a_score"] = round(1e9 * wall / (rows * columns), 4)
            row["over_addition"] = round(wall / addition, 3)
        yield row


def main():
    parser = command_line.parser(__doc__, ROWS)
    parser.add_argument("--columns", type=int, nargs="+", default=[4096, 8192])
    parser.add_argument("--width", type=int, nargs="+", default=[64, 128])
    parser.add_argument("--size", type=int, default=3000, help="of the large products")
    parser.add_argument("--seconds", type=float, default=10, help="a shape")
    arguments = command_line.parse(
        parser, columns=[256], width=[8], size=200, seconds=0.1
    )
    about, found = provenance(PACKAGES), []
    for width in arguments.width:
        for columns in arguments.columns:
            for row in measure(columns, width, arguments.size, arguments.seconds):
                csv_rows.show(row)
                found.append({**row, **about})
            csv_rows.write(arguments.output, FIELDS, found)


if __name__ == "__main__":
    main()
