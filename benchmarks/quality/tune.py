"""Searches settings of a table's subjects on validation interactions.

    python benchmarks/quality/tune.py TABLE [SUBJECT ...] --data FOLDER

Every subject gets the same number of trials: drawn at random from its grid in
`configs/TABLE.py`, and those of a second round if it has one. A trial trains with seed
0 on training interactions without a fifth of each user's, and is measured on those; the
held-out interactions of the table are never looked at. Trials are rows of
`searches/TABLE.csv`; those that it holds are not run again. `run.py` takes the setting
of the highest Recall@20.
"""

import argparse

import jobs
import results
import tables


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    jobs.add_arguments(parser)
    parser.add_argument("subjects", nargs="*", help="rows of the table; all if none")
    table, arguments = jobs.parse(parser)
    trials = [
        (data, name, table.subjects[name], setting, 0, True)
        for data in arguments.sets
        for name in arguments.subjects
        for setting in table.subjects[name].trials(table.trials)
    ]
    failed = jobs.run_all(trials, results.search_file(arguments.table))
    for data in arguments.sets:
        for name in arguments.subjects:
            done, number = tables.search(arguments.table, data, name)
            best = tables.setting_of(arguments.table, data, name)
            print(f"{data}, {name}: {len(done)} of {number} trials, {best or 'go on'}")
    if failed:
        raise SystemExit(f"{failed} of {len(trials)} trials failed")


if __name__ == "__main__":
    main()
