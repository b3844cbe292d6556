"""The folder of exported programs: their text and what is to be known of them."""

import dataclasses
import gzip
import json
import os
import pathlib

MANIFEST = "manifest.json"


@dataclasses.dataclass(frozen=True)
class Programs:
    """A folder of programs.

    Attributes:
      folder: Its path.
      about: Versions and commit of what was exported.
      checksums: Of inputs with seed 0 by case, to tell that both machines make the
        same.
      expected: What TensorFlow's own run of a program gave here, by case: the loss and
        the norms of the gradients. Of small ones alone.
    """

    folder: pathlib.Path
    about: dict
    checksums: dict
    expected: dict

    @classmethod
    def read(cls, folder):
        """Those of a folder that `export` wrote."""
        path = pathlib.Path(folder, MANIFEST)
        if not path.exists():
            raise SystemExit(
                f"{folder} has no {MANIFEST}: expected the folder that "
                "`python -m benchmarks.gpu.export --output FOLDER` wrote."
            )
        return cls(pathlib.Path(folder), **json.loads(path.read_text()))

    def write(self):
        """Writes the manifest, beside the programs."""
        found = {
            "about": self.about,
            "checksums": self.checksums,
            "expected": self.expected,
        }
        text = json.dumps(found, indent=1)
        _write(pathlib.Path(self.folder, MANIFEST), text.encode() + b"\n")

    def path(self, name):
        """Where a program is, named by `Case.program`."""
        return self.folder / f"{name}.hlo.gz"

    def add(self, name, text):
        """Writes a program, XLA's serialised HLO."""
        _write(self.path(name), gzip.compress(text, mtime=0))

    def text(self, name):
        """The serialised HLO of a program."""
        return gzip.decompress(self.path(name).read_bytes())


def _write(path, content):
    """Writes a file as a whole or, where this is ended meanwhile, not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.part")
    part.write_bytes(content)
    os.replace(part, path)
