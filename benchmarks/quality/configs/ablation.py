"""Table 2: what each part adds on Gowalla, one after the other.

Every stage of the plain towers searches temperature and rate anew, with the same number
of trials, since a part may want others than the stage before. Those of the smoothed
towers have the setting that the search of table 1 found.
"""

from tables import Subject, Table

TOWERS = {"width": 64, "batch": 2048, "epochs": 10}
GRID = {"temperature": [0.05, 0.07, 0.1, 0.15], "rate": [0.003, 0.01]}
NEGATIVES = {"positive": "negatives"}
PACKAGES = "tensorflow-recommenders", "tensorflow", "tf-keras", "numpy"


def stages():
    """Names and subjects: each stage keeps what those before it brought."""
    yield (
        "plain TFRS",
        Subject(
            "peers.tfrs_two_tower", {**TOWERS, "corrections": False}, GRID, PACKAGES
        ),
    )
    setting = dict(TOWERS)
    for name, added in (
        ("+ accidental hits", {"accidental_hits": True}),
        ("+ same key", {"same_key": True}),
        (
            "+ log-Q, positive=negatives",
            {"log_q": "streaming", "positive": "negatives"},
        ),
        ("+ log-Q, positive=refined", {"positive": "refined"}),
        ("+ log-Q, positive=all", {"positive": "all"}),
        ("+ mixed (2,048 uniform)", {"uniform": 2048}),
        ("+ hard (the 1,024 hardest)", {"hard": 1024}),
        ("+ memory (4,096)", {"memory": 4096}),
    ):
        setting = {**setting, **added}
        yield name, Subject("models.two_tower", setting, GRID, PACKAGES)


TABLE = Table(data=("gowalla",), trials=4, subjects=dict(stages()))
