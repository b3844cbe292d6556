"""Public tables as `tfrs-negatives train` is given them.

Of Gowalla and Yelp 2018 (the split of LightGCN, He et al., SIGIR 2020) the held-out
rows are given; of the others, each user's last fifth is held out.
"""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.common.data_files import data_file
from tfrs_negatives import data
from tfrs_negatives.cli import arguments
from tfrs_negatives.recommender import Source
from tfrs_negatives.recommender.source import ROLES


def _latest_small(folder):
    return []


def _movielens_100k(folder):
    return ["--tfds", "movielens/100k-ratings", "--data-dir", data_file("tfds")]


def _online_retail(folder):
    table = ["--data", data_file("online_retail.parquet"), "--time", "t"]
    return [*table, "--request", "request"]


def _movietweetings(folder):
    return ["--data", data_file("movietweetings_142k.parquet"), "--time", "t"]


def _light_gcn(name):
    def words(folder):
        paths = []
        with np.load(data_file(name)) as columns:
            for part in ("train", "test"):
                path = folder / f"{part}.parquet"
                table = {r: columns[f"{part}_{r}"] for r in ("user", "item")}
                pq.write_table(pa.table(table), path)
                paths.append(path)
        return ["--data", paths[0], "--held-out", paths[1]]

    return words


SETS = {
    "latest-small": _latest_small,
    "movielens-100k": _movielens_100k,
    "online-retail": _online_retail,
    "movietweetings": _movietweetings,
    "gowalla": _light_gcn("gowalla.npz"),
    "yelp18": _light_gcn("yelp18.npz"),
}


def words(name, folder):
    """The arguments that name a table's data; files are written into `folder`."""
    return [str(word) for word in SETS[name](folder)]


def options(name, folder):
    """What the command would understand by these arguments."""
    return arguments.parse(["train", *words(name, folder)])


def source(name, folder):
    """The `recommender.Source` of a table."""
    given = options(name, folder)
    return Source(
        given.data,
        given.tfds,
        given.data_dir,
        columns={role: getattr(given, role) for role in ROLES},
        held_out=given.held_out,
    )


def interactions(name, folder):
    """`data.Interactions` of a table whose held-out rows are not given."""
    given = options(name, folder)
    columns = {role: getattr(given, role) for role in ROLES}
    return data.interactions(
        given.data, tfds=given.tfds, data_dir=given.data_dir, **columns
    )
