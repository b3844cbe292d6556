"""What XLA makes of one program on this machine: kernels by time, memory, HLO.

    python -m benchmarks.gpu.profile --programs programs --program NAME

`--output` gets the program as it is executed (`optimised.hlo`), XLA's account of its
memory and cost (`analysis.json`), and the trace that TensorBoard and Perfetto read.
What is printed: the largest arrays that the program writes, and the kernels that took
most. Without `--program` it lists the programs.
"""

import collections
import glob
import json
import math
import pathlib
import re

from benchmarks.common import command_line
from benchmarks.gpu.cases import all_cases, quick_cases
from benchmarks.gpu.programs import Programs

# Of a number; four of all others.
_BYTES = {"pred": 1, "s8": 1, "u8": 1, "bf16": 2, "f16": 2, "s64": 8, "f64": 8}
_RESULT = re.compile(
    r"^\s*(?:ROOT )?%?([\w.-]+) = (\w+)\[([\d,]+)\]\S* ([\w-]+)\(", re.M
)


def opcodes(text):
    """How often each kind of instruction is in a program: kinds by number."""
    kinds = re.findall(r" = (?:\([^)]*\)|\S+) ([a-z][\w-]*)\(", text)
    return collections.Counter(kinds)


def written_arrays(text):
    """The arrays that instructions outside of fusions write: MiB, shape, kind, name.

    Largest first. What is inside of a fused computation is never in memory.
    """
    found = []
    for computation in re.split(r"\n(?=%|ENTRY)", text):
        if re.match(r"%?[\w.-]*fused_computation|%parallel_", computation):
            continue
        for name, dtype, shape, kind in _RESULT.findall(computation):
            if kind in ("parameter", "get-tuple-element", "bitcast", "constant"):
                continue
            size = math.prod(map(int, shape.split(","))) * _BYTES.get(dtype, 4)
            found.append((size / 2**20, f"{dtype}[{shape}]", kind, name))
    return sorted(found, reverse=True)


def kernels(folder):
    """Milliseconds by kernel from a trace, most first."""
    import jax

    total = collections.Counter()
    for path in glob.glob(f"{folder}/**/*.xplane.pb", recursive=True):
        for plane in jax.profiler.ProfileData.from_file(path).planes:
            # A processor's events are nested: its calls hold its kernels.
            if "GPU" not in plane.name:
                continue
            for line in plane.lines:
                if not line.name.startswith("Stream"):
                    continue
                for event in line.events:
                    total[event.name] += event.duration_ns / 1e6
    return total.most_common()


def trace(executable, tensors, folder, executions):
    """Executes a program, and writes what the device did to a folder."""
    import jax

    jax.block_until_ready(executable(tensors))
    with jax.profiler.trace(folder):
        for _ in range(executions):
            last = executable(tensors)
        jax.block_until_ready(last)


def show(case, programs, folder, executions):
    """Compiles a program, writes its files and prints what matters of them."""
    from benchmarks.gpu import xla_worker

    executable = xla_worker.Executable(programs.text(case.program))
    if executions:
        inputs = xla_worker.inputs_of(case, 0)
        tensors = xla_worker.on_device(inputs, executable.device)
        trace(executable, tensors, folder, executions)
    text = executable.optimised()
    (folder / "optimised.hlo").write_text(text)
    names = [name for name in dir(executable.memory) if name.endswith("_in_bytes")]
    memory = {name: getattr(executable.memory, name) for name in names}
    analysis = {"memory": memory, "cost": executable.cost()}
    (folder / "analysis.json").write_text(json.dumps(analysis, indent=1, default=str))
    print(f"{case.program} on {executable.device.device_kind}")
    print(f"compiled in {executable.compile_s:.1f} s; beside its inputs it needs")
    print(f"{executable.memory_mib:,.1f} MiB, of it written at a time, largest first:")
    for size, shape, kind, name in written_arrays(text)[:12]:
        print(f"  {size:10,.1f} MiB  {shape}  {kind}  {name}")
    print(f"instructions: {dict(opcodes(text).most_common(12))}")
    for name, milliseconds in kernels(folder)[:25]:
        print(f"  {milliseconds / executions:8.3f} ms  {name}")
    print(f"{folder} has the files")


def main():
    parser = command_line.parser(__doc__, quick=False)
    parser.add_argument(
        "--programs", type=pathlib.Path, required=True, help="folder of `export`"
    )
    parser.add_argument("--program", help="name of a file there, without .hlo.gz")
    parser.add_argument("--output", type=pathlib.Path, default="profile")
    parser.add_argument(
        "--executions", type=int, default=5, help="0 compiles alone (default: 5)"
    )
    arguments = command_line.parse(parser)
    programs = Programs.read(arguments.programs)
    there = {
        case.program: case
        for case in [*all_cases(), *quick_cases()]
        if case.engine == "xla" and programs.path(case.program).exists()
    }
    if arguments.program not in there:
        print("\n".join(there))
        if arguments.program:
            raise SystemExit(
                f"No program {arguments.program!r}: expected one of these."
            )
        return
    arguments.output.mkdir(parents=True, exist_ok=True)
    case = there[arguments.program]
    show(case, programs, arguments.output, arguments.executions)


if __name__ == "__main__":
    main()
