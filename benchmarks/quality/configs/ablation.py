"""Table 2: what each part adds on Gowalla, one after the other.

Every stage of the plain towers searches the temperature anew, among the same ones,
since a part may want another than the stage before. Our model of table 1 is run whole
and without each of its parts, for as many epochs as these towers. There the setting is
that of the whole, without a search of its own.
"""

from benchmarks.quality.subjects import Subject, Table

TOWERS = {"width": 64, "batch": 2048, "epochs": 10, "rate": 0.02}
GRID = {"temperature": [0.07, 0.1, 0.15, 0.2]}
PACKAGES = "tensorflow-recommenders", "tensorflow", "tf-keras", "numpy", "scipy"


def stages():
    """Names and subjects: each stage keeps what those before it brought."""
    yield (
        "plain TFRS",
        Subject(
            "peers.tfrs_two_tower",
            {**TOWERS, "corrections": False},
            GRID,
            packages=PACKAGES,
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
        ("+ hard (the 256 hardest)", {"hard": 256}),
        ("+ memory (4,096)", {"memory": 4096}),
    ):
        setting = {**setting, **added}
        yield name, Subject("models.two_tower", setting, GRID, packages=PACKAGES)


def whole_and_parts():
    """Names and subjects: our model of table 1, whole and each without one part."""
    for name, left_out in (
        ("ours", {}),
        ("ours without masks", {"masks": False}),
        ("ours without log-Q", {"log_q": False}),
        ("ours without items that the batch lacks", {"every_item": False}),
        ("ours without teachers", {"taught": 0}),
        ("ours without a share of the log count", {"share": 0.0}),
        ("ours without smoothing", {"layers": 0}),
        ("ours without singular vectors to start from", {"singular_start": False}),
    ):
        yield (
            name,
            Subject(
                "models.smoothed_towers",
                {"epochs": TOWERS["epochs"], **left_out},
                like=("gowalla", "ours"),
                packages=PACKAGES,
            ),
        )


TABLE = Table(
    data=("gowalla",), trials=4, subjects={**dict(stages()), **dict(whole_and_parts())}
)
