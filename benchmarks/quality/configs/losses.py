"""Table 7: what the loss's options bring to plain towers of ids.

The same towers in all rows: an embedding of each user and item, of unit length, 64
wide, batches of interactions with exact log-Q and 800 uniform negatives beside them,
and all that a user has dropped. The best row has a share of the log of an item's count
as one of the 64 dimensions. Nothing is searched here: settings are those that earlier
trials, nearly all of prototypes, chose on validation interactions; their log is
`searches/losses_prototypes.csv`.
"""

from benchmarks.quality.subjects import Subject, Table

TOWERS = {
    "width": 64,
    "batch": 1024,
    "rate": 0.005,
    "temperature": 0.1,
    "log_q": "exact",
    "known": True,
    "uniform": 800,
}
SHORT = {**TOWERS, "epochs": 6}
BSL = {"positive": "outside", "negative_weight": 1.22}
ROWS = {
    "the default loss": SHORT,
    "positive outside of the sum": {**SHORT, "positive": "outside"},
    "negatives weigh 1.22": {**SHORT, **BSL},
    "a filter of false negatives": {**SHORT, "margin": 0.1},
    "a user's other items as targets": {**SHORT, "shared": 0.2},
    "best together": {**TOWERS, **BSL, "bias": 0.5, "epochs": 15},
}
TRIALS = 46  # Of the log.

TABLE = Table(
    data=("gowalla", "yelp18", "ml1m"),
    subjects={
        name: Subject(
            "models.two_tower",
            setting,
            earlier=TRIALS if name == "best together" else 0,
            packages=("tensorflow", "tf-keras", "numpy", "scipy"),
        )
        for name, setting in ROWS.items()
    },
)
