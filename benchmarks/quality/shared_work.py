"""What several runs need alike, computed once and kept on disk.

A run that finds it there is charged what computing it cost: its row says what it would
have said alone.
"""

import hashlib
import json
import os
import pathlib

import numpy as np

from benchmarks.common import costs

FOLDER = pathlib.Path(__file__).parent / "cache"
_charges = []


def once(compute, sources, arrays, **options):
    """`compute()`, or what it returned when it was called with the same before.

    Args:
      compute: Function without arguments to a dict of arrays.
      sources: Paths of the Python files that say how.
      arrays: That it depends on.
      **options: That it depends on, as JSON can have them.
    """
    digest = hashlib.sha256(json.dumps(options, sort_keys=True).encode())
    for source in sources:
        digest.update(pathlib.Path(source).read_bytes())
    for array in arrays:
        digest.update(np.ascontiguousarray(array).tobytes())
    path = FOLDER / f"{digest.hexdigest()[:32]}.npz"
    if path.exists():
        with np.load(path) as file:
            found = dict(file)
        _charges.append(json.loads(str(found.pop("costs"))))
        return found
    clock = costs.Clock()
    found = compute()
    path.parent.mkdir(exist_ok=True)
    # All or nothing: a cut run must not leave half a file.
    part = path.with_name(f"{os.getpid()}.npz")
    np.savez(part, costs=json.dumps(clock.read()), **found)
    part.replace(path)
    return found


def charges():
    """Costs of what this process found, to be charged once."""
    found = list(_charges)
    _charges.clear()
    return found
