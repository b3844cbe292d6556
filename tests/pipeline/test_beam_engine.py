"""Where steps run."""

import time

import pytest

from tfrs_negatives.pipeline import BeamEngine

_SIZE, _NUMBER = 2**20, 100


@pytest.mark.usefixtures("beam")
def test_processes_get_all_that_is_sent_to_them(tmp_path, monkeypatch):
    # Beam's timed flush loses what is written while it waits for its turn to send. Here
    # it would come at once, and wait each time.
    import apache_beam as beam
    from apache_beam.runners.portability.fn_api_runner import worker_handlers
    from apache_beam.runners.worker import data_plane

    enqueue = data_plane._GrpcDataChannel._enqueue_to_send

    def enqueue_late(channel, sent):
        enqueue(channel, sent)
        time.sleep(0.1)

    monkeypatch.setattr(data_plane._GrpcDataChannel, "_enqueue_to_send", enqueue_late)
    monkeypatch.setattr(worker_handlers, "DATA_BUFFER_TIME_LIMIT_MS", 1)

    def write_sizes(number, parts):  # In here: workers do not have this module.
        (tmp_path / str(number)).write_text(str(sum(map(len, parts))))

    def build(pipeline):
        none = pipeline | "None" >> beam.Create([(0, b"")])
        some = (
            pipeline
            | beam.Create(range(_NUMBER))
            | beam.Reshuffle()
            | beam.Map(lambda number: (number, bytes(_SIZE)))
        )
        _ = (
            (some, none)
            | beam.Flatten()
            | beam.GroupByKey()
            | beam.MapTuple(write_sizes)
        )

    BeamEngine(workers=2).run(build)

    sizes = [int(path.read_text()) for path in tmp_path.iterdir()]
    assert sizes == [_SIZE] * _NUMBER
    assert worker_handlers.DATA_BUFFER_TIME_LIMIT_MS == 1
