"""Table 2: what each part adds on Gowalla, one after the other.

Every stage of the plain towers searches the temperature anew, among the same ones,
since a part may want another than the stage before. Our model of table 1 is run without
each of its parts, with the setting that was found there.
"""

from tables import Subject, Table, found

TOWERS = {"width": 64, "batch": 2048, "epochs": 10, "rate": 0.02}
GRID = {"temperature": [0.05, 0.07, 0.1, 0.15]}
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


def without():
    """Names and subjects: our model of table 1, each without one part."""
    ours = found("gowalla", "gowalla", "ours")
    for part, left_out in (
        ("masks", {"masks": False}),
        ("log-Q", {"log_q": False}),
        ("items that the batch lacks", {"every_item": False}),
        ("neighbours", {"neighbours": 0}),
        ("share of the log count", {"share": 0.0}),
        ("smoothing", {"layers": 0}),
        ("singular vectors to start from", {"singular_start": False}),
    ):
        yield (
            f"ours without {part}",
            Subject(
                "models.smoothed_towers",
                {**ours, **left_out},
                packages=PACKAGES[1:],
            ),
        )


TABLE = Table(
    data=("gowalla",), trials=4, subjects={**dict(stages()), **dict(without())}
)
