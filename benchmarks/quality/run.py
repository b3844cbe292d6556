"""Makes one table of `docs/results.md`: searches settings, trains, writes the table.

    python -m benchmarks.quality.run TABLE --data FOLDER --parallel 2

TABLE is gowalla, ablation, requests, log_q, scale, serving or losses;
`configs/TABLE.py` says what it trains. Each subject that has a grid gets the same
number of trials: drawn at random from it, and those of a second round if it has one. A
trial trains with seed 0 on training interactions without a fifth of each user's, and is
measured on those; the held-out interactions of the table are never looked at. The
setting of the highest Recall@20 then trains with three seeds and is measured on the
held-out interactions.

Trials are rows of `searches/TABLE.csv`, runs of `runs/TABLE.csv`; each is a process of
its own and writes its rows when it ends. What these files hold is not run again: a
runner that was cut goes on where it was. Needs what
`benchmarks/quality/requirements.txt` names beside the package. `--quick` is for the
table gowalla: popularity, once, and no page is written.
"""

import pathlib
import subprocess
import tempfile

from benchmarks.common import command_line
from benchmarks.common.provenance import PROJECT
from benchmarks.common.worker_process import module_command
from benchmarks.quality import jobs, report, results, tables


def parse():
    """The table, and the arguments with all of its `sets` and `subjects` where none are
    named."""
    parser = command_line.parser(__doc__, data=True)
    parser.add_argument("table", choices=tables.NAMES)
    parser.add_argument("--sets", nargs="+", help="only these data sets of the table")
    parser.add_argument("--subjects", nargs="+", help="only these rows of the table")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument(
        "--parallel", type=int, default=1, help="runs at a time, which share the cores"
    )
    parser.add_argument("--search-only", action="store_true", help="only the trials")
    parser.add_argument(
        "--folder",
        type=pathlib.Path,
        default=results.HERE,
        help="where `runs` and `searches` lie (default: beside this script)",
    )
    arguments = command_line.parse(
        parser,
        subjects=["popularity"],
        seeds=[0],
        folder=pathlib.Path(tempfile.mkdtemp(prefix="quick_benchmark_")),
    )
    results.HERE = arguments.folder
    table = tables.load(arguments.table)
    for name, known in (("sets", table.data), ("subjects", table.subjects)):
        named = getattr(arguments, name) or list(known)
        unknown = [each for each in named if each not in known]
        if unknown:
            parser.error(f"{unknown} are no {name} of this table: it has {list(known)}")
        setattr(arguments, name, named)
    return table, arguments


def searches(name, arguments):
    """The searches that give settings to a table's subjects: from their table, a list
    of pairs of a data set and a subject."""
    found = {}
    for data in arguments.sets:
        for subject_name in arguments.subjects:
            table_name, source = tables.source(name, subject_name)
            pairs = found.setdefault(table_name, [])
            if (data, source) not in pairs:
                pairs.append((data, source))
    return found


def trials(name, pairs):
    """The jobs of a table's searches."""
    table = tables.load(name)
    return [
        (data, subject, table.subjects[subject], setting, 0, True)
        for data, subject in pairs
        for setting in table.subjects[subject].trials(table.trials)
    ]


def runs(name, arguments):
    """The jobs that are measured on held-out interactions.

    What no seed changes runs once, as seed 0.
    """
    table = tables.load(name)
    return [
        (data, subject_name, subject, setting, seed if subject.seeded else 0, False)
        for data in arguments.sets
        for seed in arguments.seeds
        for subject_name in arguments.subjects
        for subject in [table.subjects[subject_name]]
        for setting in [tables.setting_of(name, data, subject_name)]
        if setting is not None and (subject.seeded or seed == arguments.seeds[0])
    ]


def main():
    table, arguments = parse()
    failed = 0
    for script, *words in [] if arguments.search_only else table.scripts:
        words += ["--seeds", *map(str, arguments.seeds)]
        subprocess.run(module_command(script, *words), check=True, cwd=PROJECT)
    for name, pairs in searches(arguments.table, arguments).items():
        wanted, path = trials(name, pairs), results.search_file(name)
        failed += jobs.run_all(wanted, path, arguments.parallel)
        for data, subject in pairs:
            done, number = tables.search(name, data, subject)
            best = tables.setting_of(name, data, subject)
            if number:
                print(f"{data}, {subject}: {len(done)} of {number} trials, {best}")
    if not arguments.search_only:
        wanted = runs(arguments.table, arguments)
        path = results.runs_file(arguments.table)
        failed += jobs.run_all(wanted, path, arguments.parallel)
        if not arguments.quick:
            report.write()
    if failed:
        raise SystemExit(f"{failed} runs failed; the same command runs them again.")


if __name__ == "__main__":
    main()
