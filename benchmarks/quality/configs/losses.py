"""Table 7: what the loss's options bring to plain towers of ids.

The same towers, batches, epochs and rate in all rows: an embedding of each user and
item, of unit length, 64 wide, batches of interactions with exact log-Q, 800 uniform
negatives beside them, and all that a user has dropped. Rows are the default loss, one
option more each, and what came out best together. Nothing is searched here: settings
are those that a search among prototypes chose on validation interactions, whose log is
`searches/losses_screening.csv`. `EARLIER` says how many of them there were.
"""

from benchmarks.quality.subjects import Subject, Table

TOWERS = {
    "width": 64,
    "batch": 1024,
    "rate": 0.005,
    "epochs": 8,
    "temperature": 0.1,
    "log_q": "exact",
    "known": True,
    "uniform": 800,
}
BSL = {"positive": "outside", "negative_weight": 1.22}
ROWS = {
    "the default loss": {},
    "positive outside of the sum": {"positive": "outside"},
    "negatives weigh 1.22": BSL,
}


def subject(added):
    return Subject(
        "models.two_tower", {**TOWERS, **added}, packages=("tensorflow", "tf-keras")
    )


TABLE = Table(
    data=("gowalla", "yelp18", "ml1m"),
    subjects={name: subject(added) for name, added in ROWS.items()},
)
