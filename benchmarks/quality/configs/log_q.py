"""Table 4: log-Q (Yi et al. 2019) and mixed negatives (Yang et al. 2020).

And the refined treatment of the positive (Khrylchenko et al. 2025). On MovieTweetings,
whose most popular 1% of items hold 42% of interactions, and MovieLens 1M. Accidental
hits and the user's other items are dropped in every row: rows differ in q, in the
negatives, and in the temperature that each searches. Yang et al. leave the positive
uncorrected (their equation 5): so do the mixed rows and the one that they are compared
with; one pair corrects it.
"""

from benchmarks.quality.subjects import Subject, Table

TOWERS = {
    "width": 64,
    "batch": 1024,
    "epochs": 10,
    "rate": 0.02,
    "accidental_hits": True,
    "same_key": True,
}
GRID = {"temperature": [0.05, 0.1, 0.15, 0.2, 0.3, 0.4]}
YANG = {"log_q": "streaming", "positive": "negatives"}
ROWS = {
    "no log-Q": {},
    "exact log-Q": {"log_q": "exact"},
    "streaming log-Q": {"log_q": "streaming"},
    "exact log-Q, positive=refined": {"log_q": "exact", "positive": "refined"},
    "streaming log-Q, positive=negatives": YANG,
    "mixed, 1,024 uniform, positive=all": {"log_q": "streaming", "uniform": 1024},
    "mixed, 256 uniform": {**YANG, "uniform": 256},
    "mixed, 1,024 uniform": {**YANG, "uniform": 1024},
    "mixed, 4,096 uniform": {**YANG, "uniform": 4096},
}
PACKAGES = "tensorflow-recommenders", "tensorflow", "tf-keras", "numpy"

TABLE = Table(
    data=("movietweetings", "ml1m"),
    trials=6,
    claims=(
        ("Yi et al.: log-Q beats none (exact q)", "exact log-Q", "no log-Q"),
        ("Yi et al.: log-Q beats none (q learned)", "streaming log-Q", "no log-Q"),
        (
            "Yang et al.: mixed beats batch-only",
            "mixed, 1,024 uniform",
            "streaming log-Q, positive=negatives",
        ),
        (
            "the same, positives corrected",
            "mixed, 1,024 uniform, positive=all",
            "streaming log-Q",
        ),
        (
            "Yang et al.: thousands of uniform ones beat hundreds",
            "mixed, 4,096 uniform",
            "mixed, 256 uniform",
        ),
        (
            "Khrylchenko et al.: refined beats standard",
            "exact log-Q, positive=refined",
            "exact log-Q",
        ),
    ),
    subjects={
        name: Subject(
            "models.two_tower", {**TOWERS, **options}, GRID, packages=PACKAGES
        )
        for name, options in ROWS.items()
    },
)
