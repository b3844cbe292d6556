"""Exact search of the rows that count, however many of them do not."""

import numpy as np

from tfrs_negatives.index.live.exact_rows import best_rows


def test_the_best_of_the_rows_that_count():
    rng = np.random.default_rng(0)
    for _ in range(300):
        num_rows, num_queries = int(rng.integers(1, 200)), int(rng.integers(1, 5))
        # Small integers, so that scores are exact, and many are equal.
        queries = rng.integers(-3, 4, [num_queries, 3]).astype(np.float32)
        embeddings = rng.integers(-3, 4, [num_rows, 3]).astype(np.float32)
        counts = rng.random(num_rows) < rng.choice([0.1, 0.4, 0.7, 0.76, 0.9, 1])
        k = int(rng.integers(0, counts.sum() + 1))
        scores, rows = best_rows(queries, embeddings, k, counts)
        for place, query in enumerate(queries):
            all_scores = [
                sum(float(a) * float(b) for a, b in zip(query, row, strict=True))
                for row in embeddings
            ]
            alive = [s for s, each in zip(all_scores, counts, strict=True) if each]
            assert scores[place].tolist() == sorted(alive, reverse=True)[:k]
            found = rows[place].tolist()
            assert len(set(found)) == k and all(counts[row] for row in found)
            assert [all_scores[row] for row in found] == scores[place].tolist()
