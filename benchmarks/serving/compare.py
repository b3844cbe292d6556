"""The server of one state of the package against that of another, in turns.

    python -m benchmarks.serving.compare OLD NEW

OLD and NEW are commits, or folders of checkouts (`.` is this one as it stands). Each
exports the same model and serves it in a process of its own; loads as in `run.py`, on
one server after the other, again and again, so that a busy machine is fair to both.
Ratios are NEW over OLD, medians over the rounds.
"""

import contextlib
import pathlib
import statistics
import subprocess
import sys
import tempfile

from benchmarks.common import command_line, csv_rows
from benchmarks.common.checkouts import package_of
from benchmarks.common.provenance import provenance
from benchmarks.common.worker_process import in_folder, module_command
from benchmarks.serving import run

ROWS = pathlib.Path(__file__).with_name("compared.csv")
MEASURED = "p50_ms p99_ms requests_per_second server_cpu_ms".split()
FIELDS = [
    *"old new protocol index num_candidates connections rounds seconds failed".split(),
    *(f"{name}_{which}" for name in MEASURED for which in ("old", "new", "ratio")),
    *"device versions commit".split(),
]


@contextlib.contextmanager
def serving(source, index_name, num_candidates):
    """What a package is called, its server's process and ports."""
    with package_of(source) as (folder, name), tempfile.TemporaryDirectory() as root:
        words = [root, index_name, num_candidates]
        subprocess.run(
            module_command("benchmarks.serving.compare", "--export", *words),
            check=True,
            **in_folder(folder),
        )
        server, ports = run.start_server(pathlib.Path(root, "model"), folder)
        try:
            yield name, server, ports
        finally:
            server.terminate()
            server.wait()


def rounds_of(sources, arguments):
    """Rows: for each protocol and number of connections, both servers in turns."""
    for index_name in arguments.indexes:
        with contextlib.ExitStack() as stack:
            sides = [
                stack.enter_context(serving(source, index_name, arguments.candidates))
                for source in sources
            ]
            for protocol in arguments.protocols:
                for _, _, ports in sides:
                    run.load(protocol, ports[protocol], 8, 2).communicate()  # Warms up.
                for connections in arguments.connections:
                    found = [[], []]
                    for turn in range(arguments.rounds):
                        for which in (0, 1) if turn % 2 else (1, 0):
                            _, server, ports = sides[which]
                            found[which].append(
                                run.measure(
                                    server,
                                    ports[protocol],
                                    protocol,
                                    connections,
                                    arguments.seconds,
                                    None,
                                    [],
                                )  # fmt: skip
                            )
                    yield {
                        "old": sides[0][0],
                        "new": sides[1][0],
                        "protocol": protocol,
                        "index": index_name,
                        "num_candidates": arguments.candidates,
                        "connections": connections,
                        "rounds": arguments.rounds,
                        "seconds": arguments.seconds,
                        "failed": sum(one["failed"] for side in found for one in side),
                        **compared(*found),
                    }


def compared(old, new):
    """Medians of what was measured, and of the ratios of neighbouring turns."""
    columns = {}
    for name in MEASURED:
        pairs = [
            (before[name], after[name]) for before, after in zip(old, new, strict=True)
        ]
        columns[f"{name}_old"] = round(statistics.median(a for a, _ in pairs), 3)
        columns[f"{name}_new"] = round(statistics.median(b for _, b in pairs), 3)
        columns[f"{name}_ratio"] = round(statistics.median(b / a for a, b in pairs), 3)
    return columns


def main():
    if sys.argv[1:2] == ["--export"]:
        root, index_name, num_candidates = sys.argv[2:]
        run.export(pathlib.Path(root, "model"), index_name, int(num_candidates), 0)
        return
    parser = command_line.parser(__doc__, ROWS)
    parser.add_argument("sources", nargs="+", metavar="OLD NEW")
    parser.add_argument("--candidates", type=int, default=100_000)
    parser.add_argument("--seconds", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--indexes", nargs="+", default=["ScaNN"])
    parser.add_argument("--protocols", nargs="+", default=["REST", "gRPC"])
    parser.add_argument("--connections", type=int, nargs="+", default=[1, 8, 64])
    arguments = command_line.parse(
        parser, candidates=1_000, seconds=1, rounds=2, indexes=["BruteForce"]
    )
    if len(arguments.sources) != 2:
        raise SystemExit(f"expected OLD and NEW, received {arguments.sources}")
    about, rows = provenance(run.PACKAGES), []
    for row in rounds_of(arguments.sources, arguments):
        csv_rows.show(row)
        rows.append({**row, **about})
        csv_rows.write(arguments.output, FIELDS, rows)


if __name__ == "__main__":
    main()
