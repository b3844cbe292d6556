"""Compares `evaluate.py` with ir-measures, which shares no code with the package.

    python -m benchmarks.quality.compare_evaluators --data FOLDER

On Gowalla, for a model of dot products (a singular value decomposition) and for one of
other scores (the same, with popularity added). It is given the first 20 items by
`top_items`; of the dot products the package finds these itself.
"""

import numpy as np

from benchmarks.common import command_line
from benchmarks.quality import splits
from benchmarks.quality.evaluate import MEASURES, TOP, blocks, evaluate, top_items
from benchmarks.quality.rankers import Factors, Scores


def of_ir_measures(ranker, split):
    """Recall and NDCG by ir-measures, of the first 20 items."""
    import ir_measures

    run, relevant = [], []
    for users, seen, positives in blocks(split):
        best, _ = top_items(ranker, users, seen)
        for user, items, wanted in zip(users, best, positives, strict=True):
            name = str(user)
            run += [
                ir_measures.ScoredDoc(name, str(item), float(TOP - place))
                for place, item in enumerate(items)
            ]
            relevant += [ir_measures.Qrel(name, str(item), 1) for item in wanted]
    wanted = [ir_measures.R @ TOP, ir_measures.nDCG @ TOP]
    found = ir_measures.calc_aggregate(wanted, relevant, run)
    return dict(zip(MEASURES[:2], map(found.get, wanted), strict=True))


def main():
    import scipy.sparse.linalg

    parser = command_line.parser(__doc__, data=True)
    parser.add_argument("--width", type=int, default=64, help="singular vectors")
    arguments = command_line.parse(parser, width=2)
    split = splits.load("gowalla")
    matrix = split.train.matrix()
    left, values, right = scipy.sparse.linalg.svds(matrix, arguments.width)
    factors = Factors(left * values, np.ascontiguousarray(right.T))
    counts = split.train.item_counts() / 1e4
    added = Scores(lambda users: factors.users[users] @ factors.items.T + counts)
    agree = True
    for name, ranker in (("dot products", factors), ("other scores", added)):
        ours, theirs = evaluate(ranker, split), of_ir_measures(ranker, split)
        for measure, value in theirs.items():
            difference = abs(value - ours[measure])
            agree &= difference <= 1e-6
            print(
                f"{name}: {measure} {ours[measure]:.6f}, ir-measures {value:.6f}, "
                f"difference {difference:.1e}"
            )
    if not agree:
        raise SystemExit("Some differ by more than 1e-6.")


if __name__ == "__main__":
    main()
