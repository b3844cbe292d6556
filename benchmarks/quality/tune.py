"""Searches settings of a table's subjects on validation interactions.

    python benchmarks/quality/tune.py TABLE [SUBJECT ...] --data FOLDER

Every subject gets the same number of trials, drawn at random from its grid in
`configs/TABLE.py` (all of a grid that has fewer). A trial trains with seed 0 on
training interactions without a fifth of each user's, and is measured on those; the
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
    parser.add_argument("--trials", type=int, help="other than the config's number")
    arguments = parser.parse_args()
    jobs.use_folder(arguments)
    table = tables.load(arguments.table)
    number = arguments.trials or table.trials
    trials = [
        (data, name, table.subjects[name], results.as_text(setting), 0, True)
        for data in arguments.sets or table.data
        for name in arguments.subjects or table.subjects
        if table.subjects[name].grid
        for setting in table.subjects[name].trials(number)
    ]
    failed = jobs.run_all(trials, results.search_file(arguments.table))
    for data in arguments.sets or table.data:
        for name in arguments.subjects or table.subjects:
            best, count = results.best_trial(arguments.table, data, name)
            if best:
                print(f"{data}, {name}: best of {count} {best['setting']}")
    if failed:
        raise SystemExit(f"{failed} of {len(trials)} trials failed")


if __name__ == "__main__":
    main()
