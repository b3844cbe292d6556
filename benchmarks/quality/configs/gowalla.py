"""Table 1: Gowalla, against every peer."""

from benchmarks.quality.subjects import Subject, Table

TWO_TOWERS = {"width": 64, "batch": 2048}
TWO_TOWER_GRID = {
    "temperature": [0.05, 0.07, 0.1, 0.15],
    "rate": [0.003, 0.01, 0.03],
    "epochs": [10, 20],
}
# Their best was of the highest rate and the most epochs.
TWO_TOWER_SECOND = (
    {"temperature": 0.1, "rate": 0.03, "epochs": 40},
    {"temperature": 0.1, "rate": 0.1, "epochs": 20},
    {"temperature": 0.12, "rate": 0.03, "epochs": 20},
    {"temperature": 0.08, "rate": 0.03, "epochs": 20},
)
PLAIN_SECOND = (
    {"temperature": 0.2, "rate": 0.01, "epochs": 20},
    {"temperature": 0.3, "rate": 0.01, "epochs": 20},
    {"temperature": 0.2, "rate": 0.03, "epochs": 20},
    {"temperature": 0.15, "rate": 0.01, "epochs": 40},
)
PACKAGES = "tensorflow-recommenders", "tensorflow", "tf-keras", "numpy", "scipy"

OURS = {
    "width": 64,
    "layers": 2,
    "users": 1024,
    "rate": 0.04,
    "suggestions": 100,
    "l2": 100.0,
}

# Of those drawn; it stood at an edge of the temperature and of the sharpness.
OURS_BEST = {
    "temperature": 0.09,
    "share": 0.75,
    "taught": 0.6,
    "sharpness": 2.0,
    "epochs": 20,
}

TABLE = Table(
    data=("gowalla",),
    trials=8,
    subjects={
        "popularity": Subject(
            "peers.popularity", packages=("numpy",), keras=None, seeded=False
        ),
        "EASE^R": Subject(
            "peers.ease",
            grid={"l2": [25.0, 50.0, 70.0, 100.0, 140.0, 200.0, 400.0, 800.0]},
            second_round=tuple({"l2": l2} for l2 in (80.0, 90.0, 115.0, 160.0)),
            packages=("numpy", "scipy"),
            keras=None,
            seeded=False,
        ),
        "implicit ALS": Subject(
            "peers.als",
            fixed={"factors": 64},
            grid={
                "regularization": [0.01, 0.1, 1.0],
                "alpha": [5.0, 20.0, 40.0, 80.0, 160.0],
                "iterations": [10, 20],
            },
            second_round=tuple(
                {"regularization": regularization, "alpha": alpha, "iterations": 10}
                for regularization, alpha in (
                    (10.0, 80.0),
                    (10.0, 120.0),
                    (10.0, 320.0),
                    (30.0, 120.0),
                )
            ),
            packages=("implicit", "numpy", "scipy"),
            keras=None,
        ),
        "implicit BPR": Subject(
            "peers.bpr",
            fixed={"factors": 63},
            grid={
                "learning_rate": [0.003, 0.01, 0.03, 0.1],
                "regularization": [0.0001, 0.001, 0.01],
                "iterations": [100, 200],
            },
            second_round=tuple(
                {
                    "learning_rate": rate,
                    "regularization": regularization,
                    "iterations": iterations,
                }
                for rate, regularization, iterations in (
                    (0.01, 0.0001, 400),
                    (0.01, 0.0001, 800),
                    (0.01, 0.00001, 400),
                    (0.02, 0.0001, 400),
                )
            ),
            packages=("implicit", "numpy", "scipy"),
            keras=None,
        ),
        "TFRS, plain": Subject(
            "peers.tfrs_two_tower",
            fixed={**TWO_TOWERS, "corrections": False},
            grid=TWO_TOWER_GRID,
            second_round=PLAIN_SECOND,
            packages=PACKAGES[:4],
        ),
        "TFRS, its corrections": Subject(
            "peers.tfrs_two_tower",
            fixed={**TWO_TOWERS, "corrections": True},
            grid=TWO_TOWER_GRID,
            second_round=TWO_TOWER_SECOND,
            packages=PACKAGES[:4],
        ),
        "keras-rs": Subject(
            "peers.keras_rs_two_tower",
            fixed=TWO_TOWERS,
            grid=TWO_TOWER_GRID,
            second_round=TWO_TOWER_SECOND,
            packages=("keras-rs", "keras", "tensorflow", "numpy"),
            keras=3,
        ),
        "PyTorch": Subject(
            "peers.torch_two_tower",
            fixed=TWO_TOWERS,
            grid=TWO_TOWER_GRID,
            second_round=TWO_TOWER_SECOND,
            packages=("torch", "numpy"),
            keras=None,
        ),
        "ours": Subject(
            "models.smoothed_towers",
            fixed=OURS,
            grid={
                "temperature": [0.09, 0.1, 0.11],
                "share": [0.6, 0.75, 0.9],
                "taught": [0.4, 0.6, 0.8],
                "sharpness": [1.3, 1.6, 2.0],
                "epochs": [10, 20],
            },
            second_round=tuple(
                {**OURS_BEST, **around}
                for around in (
                    {"temperature": 0.08},
                    {"share": 0.9},
                    {"temperature": 0.08, "share": 0.9},
                    {"taught": 0.8, "sharpness": 2.5},
                )
            ),
            earlier=29,
            packages=PACKAGES,
        ),
    },
)
