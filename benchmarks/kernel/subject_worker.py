"""One subject at one size, in a process of its own, stepping when told to."""

import sys

from benchmarks.common import worker
from benchmarks.kernel.batches import Batch


def main(subject, collisions, rows, extra, width):
    from benchmarks.kernel.subjects import SUBJECTS

    build = SUBJECTS[subject]()
    # Traces and compiles on a small batch: sizes are unknown while tracing.
    build(Batch(64, extra and 64, width, collisions))()
    step = build(Batch(rows, extra, width, collisions))

    def run():
        value = step()
        return None if subject == "floor" else float(value)

    worker.answer(run)


if __name__ == "__main__":
    worker.keep_output_clean()
    main(*sys.argv[1:3], *map(int, sys.argv[3:]))
