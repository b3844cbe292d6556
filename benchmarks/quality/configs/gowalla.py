"""Table 1: Gowalla, against every peer."""

from tables import Subject, Table

TWO_TOWERS = {"width": 64, "batch": 2048}
TWO_TOWER_GRID = {
    "temperature": [0.05, 0.07, 0.1, 0.15],
    "rate": [0.003, 0.01, 0.03],
    "epochs": [10, 20],
}

OURS = {"width": 64, "layers": 2, "users": 1024, "suggestions": 100, "epochs": 30}

TABLE = Table(
    data=("gowalla",),
    trials=8,
    subjects={
        "popularity": Subject(
            "peers.popularity", packages=("numpy",), keras=None, seeded=False
        ),
        "EASE^R": Subject(
            "peers.ease",
            grid={"l2": [50.0, 100.0, 200.0, 400.0, 800.0]},
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
            packages=("implicit", "numpy", "scipy"),
            keras=None,
        ),
        "TFRS, plain": Subject(
            "peers.tfrs_two_tower",
            fixed={**TWO_TOWERS, "corrections": False},
            grid=TWO_TOWER_GRID,
            packages=("tensorflow-recommenders", "tensorflow", "tf-keras", "numpy"),
        ),
        "TFRS, its corrections": Subject(
            "peers.tfrs_two_tower",
            fixed={**TWO_TOWERS, "corrections": True},
            grid=TWO_TOWER_GRID,
            packages=("tensorflow-recommenders", "tensorflow", "tf-keras", "numpy"),
        ),
        "keras-rs": Subject(
            "peers.keras_rs_two_tower",
            fixed=TWO_TOWERS,
            grid=TWO_TOWER_GRID,
            packages=("keras-rs", "keras", "tensorflow", "numpy"),
            keras=3,
        ),
        "PyTorch": Subject(
            "peers.torch_two_tower",
            fixed=TWO_TOWERS,
            grid=TWO_TOWER_GRID,
            packages=("torch", "numpy"),
            keras=None,
        ),
        "ours": Subject(
            "models.smoothed_towers",
            fixed=OURS,
            grid={
                "temperature": [0.1, 0.11, 0.12],
                "share": [0.75, 1.0],
                "neighbours": [0.3, 0.4],
                "sharpness": [1.0, 1.6],
                "rate": [0.02, 0.04],
            },
            packages=("tensorflow", "tf-keras", "numpy", "scipy"),
        ),
    },
)
