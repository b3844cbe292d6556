"""Times PyTorch's subjects, and writes float64 references, when told to; see `run`."""

import time

import numpy as np
import torch

from benchmarks.gpu.answers import answer_cases
from benchmarks.gpu.cases import EMBEDDINGS, SUBJECTS
from benchmarks.gpu.errors import relative_errors
from benchmarks.gpu.reference import reference
from benchmarks.gpu.timing import median_ms
from benchmarks.gpu.torch_subjects import step_of

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")


def tensors_of(case, seed):
    """The inputs of a case as tensors, embeddings in its dtype."""
    made = case.problem.inputs(seed, SUBJECTS[case.subject].inputs)
    tensors = []
    for name, array in made.items():
        tensor = torch.from_numpy(array).to(DEVICE)
        if name in EMBEDDINGS and case.dtype == "bfloat16":
            tensor = tensor.bfloat16()
        tensors.append(tensor)
    return tensors


def expected_of(case):
    """What the case should give, as arrays of float64."""
    # The last digits of float64 products are not worth a mode of their own.
    found = reference(SUBJECTS[case.subject].computes, tensors_of(case, 0))
    return [x.cpu().numpy() for x in found]


def measure(case, num_sets, seconds, references, write=False):
    """The columns of a case's row; or, to `write`, the file `references` made."""
    if write:
        np.savez(references, *(x.astype(np.float32) for x in expected_of(case)))
        _forget()
        return {}
    try:
        return _timed(case, num_sets, seconds, references)
    finally:
        _forget()


def _timed(case, num_sets, seconds, references):
    torch.backends.cuda.matmul.allow_tf32 = case.dtype == "tf32"
    sets = [tensors_of(case, seed) for seed in range(num_sets)]
    start = time.perf_counter()
    step = step_of(case.subject)
    outputs = [x.float().cpu().numpy() for x in step(*sets[0])]
    compile_s = time.perf_counter() - start
    loss_error = gradient_error = None
    if references:
        with np.load(references) as found:
            expected = [found[name] for name in found]
        loss_error, gradient_error = relative_errors(outputs, expected)
    memory_mib = _growth_mib(step, sets[0])

    def seconds_of(numbers):
        if DEVICE.type == "cpu":
            start = time.perf_counter()
            for number in numbers:
                step(*sets[number])
            return time.perf_counter() - start
        events = [torch.cuda.Event(enable_timing=True) for _ in range(2)]
        events[0].record()
        for number in numbers:
            step(*sets[number])
        events[1].record()
        torch.cuda.synchronize()
        return events[0].elapsed_time(events[1]) / 1e3

    milliseconds, executions = median_ms(seconds_of, num_sets, seconds)
    return {
        "ms": milliseconds,
        "executions": executions,
        "memory_mib": memory_mib,
        "compile_s": compile_s,
        "loss_error": loss_error,
        "gradient_error": gradient_error,
        "device": _device_name(),
    }


def _growth_mib(step, inputs):
    """The most that a step has in memory beside what was there; None on a CPU."""
    if DEVICE.type == "cpu":
        return None
    torch.cuda.synchronize()
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    step(*inputs)
    torch.cuda.synchronize()
    return (torch.cuda.max_memory_allocated() - before) / 2**20


def _device_name():
    return torch.cuda.get_device_name() if DEVICE.type == "cuda" else "cpu"


def _forget():
    """Gives the memory back that the next case, or XLA's worker, may need."""
    torch.compiler.reset()
    if DEVICE.type == "cuda":
        torch.cuda.empty_cache()


if __name__ == "__main__":
    answer_cases(measure)
