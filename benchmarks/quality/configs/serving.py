"""Table 6: recall that ScaNN loses against exact search, on a trained Gowalla model."""

from tables import Subject, Table

SETTING = {
    "model": "models.two_tower",
    "width": 64,
    "temperature": 0.07,
    "rate": 0.01,
    "batch": 2048,
    "epochs": 10,
    "log_q": "streaming",
    "accidental_hits": True,
    "same_key": True,
    "searches": [
        {},
        *({"num_leaves_to_search": leaves} for leaves in (5, 10, 20, 50)),
        *({"recall_target": target} for target in (0.9, 0.95, 0.99)),
        {"storage": "int8"},
    ],
}

TABLE = Table(
    data=("gowalla",),
    subjects={
        "two towers": Subject(
            "models.served", SETTING, packages=("tensorflow", "tf-keras", "scann")
        )
    },
)
