"""What options add to a step of the task."""

import numpy as np
import pytest
import tensorflow as tf

from benchmarks.kernel import options, task_calls
from benchmarks.kernel.batches import Batch


class Worker:
    """Stands in for an option's process: twice as long, with twice the memory."""

    def __init__(self, log, module, option, batch, width, mode, environment):
        self.log, self.option = log, option
        factor = 1 if option == options.DEFAULT else 2
        self._seconds, self.growth_mib = 0.01 * factor, batch**2 * factor
        self.times = {"wall": [], "cpu": []}

    def read(self):
        return {"ready": True}

    def step(self, calls=1):
        self.log.append(self.option)
        answer = {name: [self._seconds] * calls for name in self.times}
        for name, times in self.times.items():
            times += answer[name]
        return answer

    def forget_times(self):
        self.times = {"wall": [], "cpu": []}

    def median(self, field):
        return np.median(self.times[field])

    def close(self):
        self.log.append("end")


def test_options_take_turns_with_the_default(monkeypatch):
    log = []
    monkeypatch.setattr(
        options, "SteppingWorker", lambda *words, **named: Worker(log, *words, **named)
    )
    default, outside = options.measure(["outside"], 64, 8, turns=3)
    assert log == ["corrected", "outside"] * 4 + ["end", "end"]
    assert (default["option"], default["cpu_over_default"]) == ("corrected", 1.0)
    assert (outside["option"], outside["cpu_over_default"]) == ("outside", 2.0)
    assert (outside["cpu_ms"], outside["memory_mib"]) == (20.0, 2 * 64**2)


def test_exponent_is_the_slope_from_the_second_batch_on():
    def rows(*memory):
        batches = (256, 512, 1024, 2048)
        return [
            {"batch": batch, "memory_mib": mib}
            for batch, mib in zip(batches, memory, strict=False)
        ]

    assert options.exponent(rows(900, 10, 20, 40)) == 1.0
    assert options.exponent(rows(900, 10, 40, 160)) == 2.0
    assert options.exponent(rows(10, 20)) == ""
    assert options.exponent(rows(10, 0, 40)) == ""


@pytest.mark.parametrize("option", options.OPTIONS)
def test_every_option_changes_the_default(option):
    """Else its time would be the default's."""

    def value(call):
        embeddings, arguments, task = task_calls.CALLS[call](Batch(64, 0, 8))
        arguments = tf.nest.map_structure(tf.constant, arguments)
        embeddings = map(tf.constant, embeddings)
        return float(task(*embeddings, **arguments, training=True))

    assert value(option) != pytest.approx(value(options.DEFAULT), rel=1e-4)
