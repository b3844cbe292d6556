"""Executes exported programs through JAX's XLA, one after the other, when told to.

Each line that it reads is a case; it answers with what was measured. See `run`.
"""

import os
import sys
import time

# Ids are 64-bit. Memory is taken as it is needed, not most of the card at once.
os.environ["JAX_ENABLE_X64"] = "1"
os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
os.environ.setdefault("XLA_PYTHON_CLIENT_MEM_FRACTION", ".95")

import jax  # noqa: E402
import ml_dtypes  # noqa: E402
import numpy as np  # noqa: E402
from jax._src.lib import xla_client  # noqa: E402
from jax.extend.mlir import hlo_to_stablehlo  # noqa: E402

from benchmarks.gpu.answers import answer_cases  # noqa: E402
from benchmarks.gpu.cases import EMBEDDINGS, SUBJECTS  # noqa: E402
from benchmarks.gpu.errors import relative_errors  # noqa: E402
from benchmarks.gpu.problems import checksum  # noqa: E402
from benchmarks.gpu.programs import Programs  # noqa: E402
from benchmarks.gpu.timing import median_ms  # noqa: E402


class Executable:
    """A program, compiled for the first device."""

    def __init__(self, text):
        self.device = jax.devices()[0]
        start = time.perf_counter()
        self._compiled = self.device.client.compile_and_load(
            hlo_to_stablehlo(text),
            executable_devices=xla_client.DeviceList((self.device,)),
            compile_options=xla_client.CompileOptions(),
        )
        self.compile_s = time.perf_counter() - start

    def __call__(self, tensors):
        results = self._compiled.execute_sharded(tensors)
        return [x[0] for x in results.disassemble_into_single_device_arrays()]

    @property
    def memory(self):
        """XLA's own account of what an execution needs, in bytes by kind."""
        return self._compiled.get_compiled_memory_stats()

    @property
    def memory_mib(self):
        """What an execution needs beside its inputs: temporaries and outputs."""
        memory = self.memory
        held = memory.temp_size_in_bytes + memory.output_size_in_bytes
        return (held - memory.alias_size_in_bytes) / 2**20

    def optimised(self):
        """The program as it is executed, HLO as text."""
        return self._compiled.hlo_modules()[0].to_string()

    def cost(self):
        """XLA's estimates: operations and bytes, by name."""
        return self._compiled.cost_analysis()


def inputs_of(case, seed):
    """The arrays of a case, in the program's dtypes and order."""
    made = case.problem.inputs(seed, SUBJECTS[case.subject].inputs)
    if case.dtype != "bfloat16":
        return made
    return {
        name: array.astype(ml_dtypes.bfloat16) if name in EMBEDDINGS else array
        for name, array in made.items()
    }


def on_device(arrays, device):
    """The arrays as tensors of a device, there already."""
    return jax.block_until_ready([jax.device_put(a, device) for a in arrays.values()])


def measure(programs, case, num_sets, seconds, references):
    """The columns of a case's row."""
    arrays = case.problem.inputs(0, SUBJECTS[case.subject].inputs)
    if checksum(arrays) != programs.checksums[case.to_json()]:
        raise ValueError(
            f"{case.program}: NumPy {np.__version__} makes other inputs from the same "
            "seed than the machine that exported it."
        )
    executable = Executable(programs.text(case.program))
    sets = [on_device(inputs_of(case, s), executable.device) for s in range(num_sets)]
    outputs = [np.asarray(x) for x in executable(sets[0])]
    loss_error = gradient_error = None
    if references:
        with np.load(references) as found:
            expected = [found[name] for name in found]
        loss_error, gradient_error = relative_errors(outputs, expected)
    tensorflow_error = None
    if found_there := programs.expected.get(case.to_json()):
        norms = [np.linalg.norm(x.astype(np.float64)) for x in outputs]
        tensorflow_error = float(np.max(np.abs(np.divide(norms, found_there) - 1)))

    def seconds_of(numbers):
        start = time.perf_counter()
        for number in numbers:
            last = executable(sets[number])
        jax.block_until_ready(last)
        return time.perf_counter() - start

    milliseconds, executions = median_ms(seconds_of, num_sets, seconds)
    return {
        "ms": milliseconds,
        "executions": executions,
        "memory_mib": executable.memory_mib,
        "compile_s": executable.compile_s,
        "loss_error": loss_error,
        "gradient_error": gradient_error,
        "tensorflow_error": tensorflow_error,
        "device": executable.device.device_kind,
    }


def main(folder):
    programs = Programs.read(folder)
    answer_cases(lambda case, **how: measure(programs, case, **how))


if __name__ == "__main__":
    main(sys.argv[1])
