"""Runs the training runs of one table, three seeds of each of its subjects.

    python benchmarks/quality/run.py TABLE --data FOLDER

TABLE is gowalla, ablation, requests, log_q, scale or serving; `configs/TABLE.py` says
what it trains. Subjects with a grid run with the setting that `tune.py` found best on
validation interactions, in the log `searches/TABLE.csv`. Every run is a process of its
own and becomes rows of `runs/TABLE.csv` when it ends; runs that it holds are not run
again. Then `report.py` writes the tables and plots of `docs/results.md`. Needs what
`benchmarks/quality/requirements.txt` names beside the package.
"""

import argparse
import subprocess
import sys

import jobs
import results
import tables


def wanted(name, table, arguments):
    """The runs of a table; says which subjects have no setting yet."""
    for data in arguments.sets or table.data:
        for seed in arguments.seeds:
            for subject_name in arguments.subjects or table.subjects:
                subject = table.subjects[subject_name]
                setting = tables.setting_of(name, data, subject_name, subject)
                if setting is None:
                    if seed == arguments.seeds[0]:
                        print(
                            f"{data}, {subject_name} has no setting: first run tune.py "
                            f'{name} "{subject_name}"'
                        )
                elif subject.seeded or seed == arguments.seeds[0]:
                    yield data, subject_name, subject, setting, seed, False


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    jobs.add_arguments(parser)
    parser.add_argument("--subjects", nargs="+", help="only these rows of the table")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    arguments = parser.parse_args()
    jobs.use_folder(arguments)
    table = tables.load(arguments.table)
    if table.script:
        script = [str(jobs.HERE.parent / table.script[0]), *table.script[1:]]
        seeds = ["--seeds", *map(str, arguments.seeds)]
        raise SystemExit(subprocess.call([sys.executable, *script, *seeds]))
    runs = list(wanted(arguments.table, table, arguments))
    failed = jobs.run_all(runs, results.runs_file(arguments.table))
    if failed:
        raise SystemExit(f"{failed} of {len(runs)} runs failed")


if __name__ == "__main__":
    main()
