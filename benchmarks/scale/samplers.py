"""Samplers of ten million items on a stream of 100 million rows: speed and memory.

    python -m benchmarks.scale.samplers --folder FOLDER

The table is that of `benchmarks.scale.train`, read by `data.stream_interactions`. Its
items are counted in one pass; samplers are made of ids and counts, one after the other,
and what each adds to the process's memory is noted. Then pipelines with their negatives
and the bare stream take turns.
"""

import pathlib
import tempfile

import numpy as np

from benchmarks.common import command_line, costs, csv_rows
from benchmarks.common.pipelines import without_prefetch
from benchmarks.common.provenance import FIELDS as WHERE
from benchmarks.common.provenance import provenance
from benchmarks.common.turns import alternate, medians
from benchmarks.scale.train import table
from tfrs_negatives import data, samplers

ROWS = pathlib.Path(__file__).with_name("samplers.csv")
FIELDS = (
    "what rows items batch negatives turns wall_ms cpu_ms rows_a_second "
    "seconds_to_make resident_mib growth_mib peak_mib"
).split() + WHERE


def stream(path, arguments):
    return data.stream_interactions(path, time="time", batch_size=arguments.batch)


def made(name, function):
    """What a function makes, and columns that say what that took."""
    before, began = costs.resident_mib(), costs.now()
    costs.forget_peak()
    thing = function()
    columns = {
        "seconds_to_make": round(costs.since(began)[0], 1),
        "resident_mib": round(costs.resident_mib()),
        "growth_mib": round(costs.resident_mib() - before),
        "peak_mib": round(costs.peak_mib()),
    }
    csv_rows.show({"what": name, **columns})
    return thing, columns


def main():
    parser = command_line.parser(__doc__, ROWS)
    parser.add_argument(
        "--folder", type=pathlib.Path, help="for the table (default: a temporary)"
    )
    parser.add_argument("--rows", type=int, default=100_000_000)
    parser.add_argument("--items", type=int, default=10_000_000)
    parser.add_argument("--batch", type=int, default=8192)
    parser.add_argument("--negatives", type=int, default=8192)
    parser.add_argument("--seconds", type=float, default=90)
    arguments = command_line.parse(
        parser, rows=6_000, items=500, batch=64, negatives=64, seconds=0.1
    )
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.folder or pathlib.Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        path = table(folder, arguments.rows, arguments.items)
        rows = measured(path, arguments)
    about = provenance(("tensorflow", "numpy", "pyarrow"))
    shared = {name: getattr(arguments, name) for name in ("rows", "batch", "negatives")}
    for row in rows:
        csv_rows.show(row)
    rows = [{**shared, **row, **about} for row in rows]
    csv_rows.write(arguments.output, FIELDS, rows)


def measured(path, arguments):
    """Rows of the CSV, without what is the same for all."""
    bare = stream(path, arguments)
    counted = bare.map(lambda row: row["item"])
    (ids, counts), of_counting = made(
        "count_ids", lambda: data.count_ids(counted, progress=False)
    )
    uniform, of_uniform = made("Uniform", lambda: samplers.Uniform(ids))
    corpus = uniform._corpus
    popular, of_popular = made(
        "Popularity", lambda: samplers.Popularity(corpus, (ids, counts))
    )
    # log q for the loss holds tables of its own.
    _, of_log_q = made("log q", lambda: popular.log_q(ids[:1]))
    mixture, of_mixture = made(
        "Mixture", lambda: samplers.Mixture([uniform, popular], [0.5, 0.5])
    )
    pipelines, makings = {"bare stream": bare}, {"bare stream": {}}
    for sampler, columns in (
        (uniform, of_uniform),
        (popular, of_popular),
        (mixture, of_mixture),
    ):
        name = type(sampler).__name__
        pipelines[name] = sampler.attach(bare, arguments.negatives)
        makings[name] = columns
    elements = {
        name: iter(without_prefetch(p.repeat())) for name, p in pipelines.items()
    }
    functions = {
        name: lambda element=element: next(element)
        for name, element in elements.items()
    }
    times = alternate(functions, arguments.seconds, repeats=20, swap=True)
    rows = [
        {"what": "count_ids", "items": len(ids), **of_counting},
        {"what": "log q of Popularity", "items": len(ids), **of_log_q},
    ]
    for name, taken in times.items():
        row = {"what": name, "items": len(ids), **medians(taken), **makings[name]}
        rate = arguments.batch / np.median(taken, axis=0)[0]
        rows.append({**row, "rows_a_second": round(float(rate))})
    return rows


if __name__ == "__main__":
    main()
