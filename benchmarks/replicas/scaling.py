"""Time of a training step and bytes moved, against the number of replicas.

    python -m benchmarks.replicas.scaling

The same global batch on 1, 2 and 4 replicas: two tables of 20,000 ids (d = 64),
gradient descent, accidental hits and the user's other items dropped, log q from
`layers.StreamingFrequency`. With global negatives (floats as they are, and as
bfloat16), with those of the replica alone, and TFRS's task, which knows only these and
drops accidental hits alone. Replicas are logical processors under `MirroredStrategy`
(GPUs where there are any), or two processes under `MultiWorkerMirroredStrategy` on
loopback. One replica with the whole batch is the floor.

Every configuration runs in a process of its own; they take turns, so that what else the
machine does falls on all alike. Replicas share the cores, so it is the CPU seconds of
all replicas together that tell what distribution costs; ratios are medians of what
neighbouring turns give. Bytes are counted twice: what each replica gives to collectives
between loss and gradients, and what sockets of the two processes receive, less what
they receive with local negatives. Both stand beside the formula of
docs/distribution.md.
"""

import json
import pathlib
import socket
import statistics

from benchmarks.common import command_line, csv_rows
from benchmarks.common.provenance import FIELDS as WHERE
from benchmarks.common.provenance import provenance
from benchmarks.common.worker_process import WorkerProcess

ROWS = pathlib.Path(__file__).with_name("scaling.csv")
PACKAGES = "tensorflow", "tensorflow-recommenders", "tf-keras", "numpy"
WIDTH, KEYS = 64, 1
WAYS = "global", "global bfloat16", "local", "tfrs"
# Way, replicas, processes.
FLOOR = "global", 1, 1
CONFIGURATIONS = [
    FLOOR,
    ("tfrs", 1, 1),
    *[(way, replicas, 1) for replicas in (2, 4) for way in WAYS],
    *[(way, 2, 2) for way in WAYS],
]
FIGURES = (
    "way replicas processes batch turns wall_ms cpu_ms wall_over_one cpu_over_one "
    "received_by_formula received_by_collectives received_by_sockets replicas_on"
).split()


class Configuration:
    """The processes of one, which step when told to."""

    def __init__(self, way, replicas, processes):
        self.key = way, replicas, processes
        self.times = {}
        cluster = {"worker": [f"localhost:{port}" for port in free_ports(processes)]}
        self._processes = []
        for index in range(processes):
            task = {"type": "worker", "index": index}
            config = json.dumps({"cluster": cluster, "task": task})
            self._processes.append(
                WorkerProcess(
                    "benchmarks.replicas.step_worker",
                    *(way, replicas),
                    environment={"TF_CONFIG": config if processes > 1 else None},
                )
            )
        self.replicas_on = self._read()[0]["device"]

    def _read(self):
        return [process.read() for process in self._processes]

    def ask(self, batch, what):
        for process in self._processes:
            process.send(f"{batch} {what}")
        return self._read()

    def turn(self, batch, steps):
        answers = self.ask(batch, steps)
        wall = max(answer["wall"] for answer in answers)
        cpu = sum(answer["cpu"] for answer in answers)
        self.times.setdefault(batch, []).append((wall, cpu))

    def received(self, batch):
        """Bytes a step that a replica receives: by collectives, and by its sockets."""
        _, replicas, _ = self.key
        first = self.ask(batch, "bytes")[0]
        gathered = (replicas - 1) * first["all_gather"]
        # A ring passes all parts round twice.
        reduced = 2 * (replicas - 1) * first["all_reduce"] // replicas
        return gathered + reduced, first["received"]

    def close(self):
        for process in self._processes:
            process.close()


def free_ports(number):
    sockets = [socket.socket() for _ in range(number)]
    for one in sockets:
        one.bind(("localhost", 0))
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


def formula(way, replicas, batch):
    """Bytes a replica receives in a step, as docs/distribution.md has them."""
    rows = batch // replicas
    estimator = 0 if way == "tfrs" else 8
    if not way.startswith("global"):
        return (replicas - 1) * rows * estimator
    floats = 2 if way == "global bfloat16" else 4
    sent = floats * WIDTH + 8 * (KEYS + 1) + 4 + estimator
    return (replicas - 1) * rows * (sent + 2 * 4 * WIDTH)


def summary(configurations, batch):
    """Rows of the table for one batch size."""
    one = configurations[FLOOR].times[batch]
    by_sockets = {}
    for key, configuration in configurations.items():
        by_collectives, by_sockets[key] = configuration.received(batch)
        way, replicas, processes = key
        wall, cpu = zip(*configuration.times[batch], strict=True)
        turns = list(zip(configuration.times[batch], one, strict=True))
        yield {
            "way": way,
            "replicas": replicas,
            "processes": processes,
            "batch": batch,
            "turns": len(wall),
            "wall_ms": round(1e3 * statistics.median(wall), 1),
            "cpu_ms": round(1e3 * statistics.median(cpu), 1),
            "wall_over_one": round(statistics.median(t[0] / o[0] for t, o in turns), 2),
            "cpu_over_one": round(statistics.median(t[1] / o[1] for t, o in turns), 2),
            "received_by_formula": formula(way, replicas, batch),
            "received_by_collectives": by_collectives,
            "received_by_sockets": round(by_sockets[key]) if processes > 1 else "",
            "replicas_on": configuration.replicas_on,
        }


def main():
    parser = command_line.parser(__doc__, ROWS)
    parser.add_argument("--batch", type=int, nargs="+", default=[1024, 8192])
    parser.add_argument("--ways", nargs="+", default=WAYS, choices=WAYS)
    parser.add_argument("--turns", type=int, default=9)
    arguments = command_line.parse(parser, batch=[1024], ways=["global"], turns=1)
    configurations, rows, about = {}, [], provenance(PACKAGES)
    try:
        for key in CONFIGURATIONS:
            if key == FLOOR or key[0] in arguments.ways:
                configurations[key] = Configuration(*key)
        for batch in arguments.batch:
            for configuration in configurations.values():
                configuration.ask(batch, 2)  # Traces.
            for _ in range(arguments.turns):
                for configuration in configurations.values():
                    configuration.turn(batch, max(1, 8192 // batch))
            for row in summary(configurations, batch):
                csv_rows.show(row)
                rows.append({**row, **about})
    finally:
        for configuration in configurations.values():
            configuration.close()
    csv_rows.write(arguments.output, [*FIGURES, *WHERE], rows)


if __name__ == "__main__":
    main()
