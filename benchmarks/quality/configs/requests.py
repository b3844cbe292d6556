"""Table 3: what request-sorted data cost, and what masks and spreading give back.

The benchmark of requests makes it; its docstring says how, and what each got to try.
"""

from benchmarks.quality.subjects import Table

SCRIPT = "benchmarks.requests.recovery"
# How far longer training and larger batches go, for the two orders that differ.
LONGER = (SCRIPT, "--sets", "diginetica", "--epochs", "12")
LONGER += ("--orders", "shuffled", "sorted", "--rates", "0.1", "0.3")

TABLE = Table(scripts=((SCRIPT,), LONGER, (*LONGER, "--batch", "512")))
