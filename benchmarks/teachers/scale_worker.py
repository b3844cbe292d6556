"""Fits one teacher in a process of its own, and prints a row of JSON."""

import sys

import numpy as np

from benchmarks.common import costs, worker

NUMBER, EASE_USERS = 100, 1_000


def drawn(rng, size, num, power):
    """[size] of 0 to num - 1, by a power of their rank."""
    shares = (np.arange(num) + 50.0) ** -power
    return rng.choice(num, size, p=shares / shares.sum())


def main(teacher, threads, interactions, users, items):
    from tfrs_negatives import teachers

    rng = np.random.default_rng(0)
    histories = teachers.Histories.from_table(
        {
            "user": drawn(rng, interactions, users, 0.7),
            "item": drawn(rng, interactions, items, 0.6),
        }
    )
    asked = histories
    if teacher == "ease":
        made = teachers.EASE(100.0, threads=threads)
        asked = histories.rows(slice(EASE_USERS))
    else:
        made = teachers.ItemNeighbours(threads=threads)
    found = []
    for work in (
        lambda: made.fit(histories, progress=False),
        lambda: made.top(asked, NUMBER, progress=False),
    ):
        costs.forget_peak()
        before, start = costs.resident_mib(), costs.now()
        kept = work()
        found.append((*costs.since(start), costs.peak_mib() - before))
    if not kept[1].any():
        raise SystemExit("Nothing is suggested.")
    num_users, num_items = histories.matrix.shape
    worker.say(
        teacher=teacher,
        threads=threads,
        interactions=histories.matrix.nnz,
        num_users=num_users,
        num_items=num_items,
        fit_seconds=f"{found[0][0]:.1f}",
        fit_cpu_seconds=f"{found[0][1]:.1f}",
        fit_growth_mib=f"{found[0][2]:.0f}",
        dense_mib=f"{4 * num_items**2 / 2**20:.0f}",
        asked_users=len(asked),
        top_seconds=f"{found[1][0]:.1f}",
        top_cpu_seconds=f"{found[1][1]:.1f}",
        top_growth_mib=f"{found[1][2]:.0f}",
    )


if __name__ == "__main__":
    worker.keep_output_clean()
    main(sys.argv[1], *map(int, sys.argv[2:]))
