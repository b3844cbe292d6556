"""Exports the programs that `benchmarks.gpu.run` measures; needs TensorFlow, no GPU.

    python -m benchmarks.gpu.export --output programs

Each subject at each size is traced by TensorFlow and lowered to XLA's HLO, before any
optimisation for a device: the compiler of the machine with the GPU does that. Ours has
the blocks that it takes on a GPU. All are 12 MiB; inputs are made by seed
where it runs. Programs that are there already are kept, so an export can be cut and
continued.
"""

import pathlib

import numpy as np
import tensorflow as tf

from benchmarks.common import command_line
from benchmarks.common.provenance import provenance
from benchmarks.gpu.cases import EMBEDDINGS, SUBJECTS, all_cases, quick_cases
from benchmarks.gpu.problems import checksum
from benchmarks.gpu.programs import MANIFEST, Programs
from benchmarks.gpu.tensorflow_subjects import step_of

# TensorFlow runs programs of up to so many rows here, for what they should give.
_EXPECTED_ROWS = 1024


def lowered(case):
    """The function that XLA compiles, and the types of what it takes."""
    dtype = tf.bfloat16 if case.dtype == "bfloat16" else tf.float32
    subject = SUBJECTS[case.subject]
    inputs = case.problem.inputs(0, subject.inputs)
    signature = [
        tf.TensorSpec(array.shape, dtype if name in EMBEDDINGS else array.dtype)
        for name, array in inputs.items()
    ]
    step = step_of(case)

    @tf.function(input_signature=signature, jit_compile=True)
    def placed(*tensors):
        # What is traced here chooses its blocks as where it will run.
        with tf.device("/GPU:0"):
            return step(*tensors)

    return placed, signature, inputs


def export(case, programs):
    """Writes a program, and what TensorFlow's own run of it gives."""
    # What float32 may be multiplied in is part of the program.
    tf.config.experimental.enable_tensor_float_32_execution(case.dtype == "tf32")
    function, signature, inputs = lowered(case)
    if not programs.path(case.program).exists():
        text = function.experimental_get_compiler_ir(*signature)(stage="hlo_serialized")
        programs.add(case.program, text)
    programs.checksums[case.to_json()] = checksum(inputs)
    if case.problem.rows <= _EXPECTED_ROWS:
        given = [
            tf.cast(array, spec.dtype)
            for array, spec in zip(inputs.values(), signature, strict=True)
        ]
        outputs = tf.nest.flatten(tf.function(step_of(case), jit_compile=True)(*given))
        norms = [float(np.linalg.norm(np.asarray(o, np.float64))) for o in outputs]
        programs.expected[case.to_json()] = norms


def check_same_commit(folder, theirs, ours):
    """Raises `SystemExit` unless programs of a commit can be added to a folder's."""
    if theirs != ours or theirs.endswith("+"):
        raise SystemExit(
            f"{folder} holds programs of {theirs}, and this is {ours}: expected the "
            "same commit, without changes since ('+'). Write to another folder, or to "
            "an empty one."
        )


def main():
    parser = command_line.parser(__doc__)
    parser.add_argument(
        "--output", type=pathlib.Path, required=True, help="folder of the programs"
    )
    parser.add_argument(
        "--subjects", nargs="+", choices=SUBJECTS, help="these alone (default: all)"
    )
    arguments = command_line.parse(parser)
    cases = quick_cases() if arguments.quick else all_cases()
    about = provenance(("tensorflow", "tensorflow-recommenders", "tf-keras"))
    programs = Programs(arguments.output, about, {}, {})
    if (arguments.output / MANIFEST).exists():
        programs = Programs.read(arguments.output)
        check_same_commit(arguments.output, programs.about["commit"], about["commit"])
    # Before the programs, so that none lies there of which nobody knows the commit.
    programs.write()
    for place, case in enumerate(cases):
        if case.engine != "xla" or case.subject not in (arguments.subjects or SUBJECTS):
            continue
        print(f"{place + 1}/{len(cases)}  {case.program}  {case.problem.collisions}")
        export(case, programs)
        programs.write()
    size = sum(path.stat().st_size for path in arguments.output.iterdir())
    print(f"{arguments.output}: {size / 2**20:.1f} MiB")


if __name__ == "__main__":
    main()
