"""Table 6: recall that ScaNN loses against exact search, on a trained Gowalla model."""

from benchmarks.quality.subjects import Subject, Table

SETTING = {
    "model": "models.smoothed_towers",
    "searches": [
        {},
        *({"num_leaves_to_search": leaves} for leaves in (5, 10, 20, 50)),
        *({"recall_target": target} for target in (0.9, 0.95, 0.99)),
        {"storage": "int8"},
    ],
}
PACKAGES = (
    "tensorflow",
    "tf-keras",
    "tensorflow-recommenders",
    "scann",
    "numpy",
    "scipy",
)

TABLE = Table(
    data=("gowalla",),
    subjects={
        "ours": Subject(
            "models.served", SETTING, like=("gowalla", "ours"), packages=PACKAGES
        )
    },
)
