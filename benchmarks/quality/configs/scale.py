"""Table 5: the batch, and replicas with local and global negatives, at equal examples.

The temperature and the rate at B = 2,048 were fixed beforehand; the rate follows the
square root of the batch. Replicas share the batch.
"""

from benchmarks.quality.subjects import Subject, Table

SETTING = {
    "width": 64,
    "temperature": 0.1,
    "rate": 0.01,
    "base_batch": 2048,
    "epochs": 10,
    "log_q": "streaming",
    "accidental_hits": True,
    "same_key": True,
    "distinct": True,
    "replicas": 1,
    "global_negatives": True,
}
BATCHES = [2**power for power in range(8, 16)]
PACKAGES = "tensorflow-recommenders", "tensorflow", "tf-keras", "numpy"


def subject(**options):
    return Subject("models.replicas", {**SETTING, **options}, packages=PACKAGES)


TABLE = Table(
    data=("gowalla",),
    subjects={
        **{f"B = {size:,}": subject(batch=size) for size in BATCHES},
        **{
            f"B = 2,048, {replicas} replicas, {kind} negatives": subject(
                batch=2048, replicas=replicas, global_negatives=kind == "global"
            )
            for replicas in (2, 4)
            for kind in ("local", "global")
        },
    },
)
