"""One training run, in a process of its own; prints a line of JSON a ranker.

It takes a line of JSON as argument: the subject's module, its setting, the data set,
the seed, and whether to measure on validation interactions. What the subject prints
goes to standard error. The times are those of training alone; memory is the peak of the
process until training has ended.
"""

import importlib
import json
import os
import sys
import time

import splits
from evaluate import evaluate


def peak_mib():
    """The most memory this process has had so far."""
    with open("/proc/self/status") as status:
        for line in status:
            if line.startswith("VmHWM"):
                return int(line.split()[1]) / 1024
    raise ValueError("no VmHWM in /proc/self/status")


def variants(module, trained, setting):
    """Triples (name, ranker, further figures) of what was trained; most have one."""
    if hasattr(module, "variants"):
        return module.variants(trained, setting)
    return [("", trained, {})]


def main(job, say):
    split = splits.load(job["data"])
    if job["validation"]:
        split = split.validation()
    module = importlib.import_module(job["module"])
    wall, cpu = time.perf_counter(), time.process_time()
    trained = module.fit(split.train, job["setting"], job["seed"])
    costs = {
        "seconds": f"{time.perf_counter() - wall:.1f}",
        "cpu_seconds": f"{time.process_time() - cpu:.1f}",
        "peak_mib": f"{peak_mib():.0f}",
    }
    for name, ranker, others in variants(module, trained, job["setting"]):
        measures = {n: f"{v:.6f}" for n, v in evaluate(ranker, split).items()}
        say({"variant": name, **measures, **costs, "others": json.dumps(others)})


if __name__ == "__main__":
    # Libraries talk on standard output; only our lines may go there.
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    main(json.loads(sys.argv[1]), lambda row: print(json.dumps(row), file=out))
