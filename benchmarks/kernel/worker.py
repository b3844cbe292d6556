"""One subject at one size, in a process of its own, stepping when told to.

Prints one line of JSON when ready and one after every line it reads: wall and
process CPU seconds of a step, and by how many bytes the step's peak memory has
ever exceeded what was in use before the first full-sized step.
"""

import json
import os
import sys
import time

from subjects import SUBJECTS, Batch


def memory(field):
    """A memory figure of this process, in bytes: VmRSS now, VmHWM its peak."""
    with open("/proc/self/status") as status:
        for line in status:
            if line.startswith(field):
                return 1024 * int(line.split()[1])
    raise ValueError(f"no {field} in /proc/self/status")


def say(**figures):
    print(json.dumps(figures), flush=True)


def main(subject, rows, extra, width):
    build = SUBJECTS[subject]()
    # Traces and compiles on a small batch: sizes are unknown while tracing.
    build(Batch(64, extra and 64, width))()
    step = build(Batch(rows, extra, width))
    with open("/proc/self/clear_refs", "w") as refs:
        refs.write("5")  # Resets the peak to the present.
    before = memory("VmRSS")
    say(ready=True)
    for _ in sys.stdin:
        wall, cpu = time.perf_counter(), time.process_time()
        value = step()
        say(
            wall=time.perf_counter() - wall,
            cpu=time.process_time() - cpu,
            growth=memory("VmHWM") - before,
            value=float(value) if subject != "floor" else None,
        )


if __name__ == "__main__":
    # Libraries talk on standard output; only our lines may go there.
    out = os.dup(1)
    os.dup2(2, 1)
    sys.stdout = os.fdopen(out, "w")
    main(sys.argv[1], *map(int, sys.argv[2:]))
