"""Runs the training runs of one table, three seeds of each of its subjects.

    python benchmarks/quality/run.py TABLE --data FOLDER

TABLE is gowalla, ablation, requests, log_q, scale or serving; `configs/TABLE.py` says
what it trains. What is searched runs with the setting that `tune.py` found best on
validation interactions, in the log `searches/TABLE.csv`, once the search is complete.
Every run is a process of its own and becomes rows of `runs/TABLE.csv` when it ends;
runs that it holds are not run again. Then `report.py` writes the tables and plots of
`docs/results.md`. Needs what `benchmarks/quality/requirements.txt` names beside the
package.
"""

import argparse
import subprocess
import sys

import jobs
import results
import tables


def wanted(table, arguments):
    """The runs of a table; says which subjects have no setting yet."""
    name = arguments.table
    for data in arguments.sets:
        for seed in arguments.seeds:
            for subject_name in arguments.subjects:
                subject = table.subjects[subject_name]
                setting = tables.setting_of(name, data, subject_name)
                if setting is None:
                    if seed == arguments.seeds[0]:
                        source = subject.like or (name, subject_name)
                        print(
                            f"{data}, {subject_name} has no setting: first run tune.py "
                            '{} "{}"'.format(*source)
                        )
                elif subject.seeded or seed == arguments.seeds[0]:
                    yield data, subject_name, subject, setting, seed, False


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    jobs.add_arguments(parser)
    parser.add_argument("--subjects", nargs="+", help="only these rows of the table")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    table, arguments = jobs.parse(parser)
    for script, *words in table.scripts:
        words += ["--seeds", *map(str, arguments.seeds)]
        command = [sys.executable, str(jobs.HERE.parent / script), *words]
        subprocess.run(command, check=True)
    runs = list(wanted(table, arguments))
    failed = jobs.run_all(runs, results.runs_file(arguments.table))
    if failed:
        raise SystemExit(f"{failed} of {len(runs)} runs failed")


if __name__ == "__main__":
    main()
