"""The package as a commit or another checkout has it."""

import contextlib
import pathlib
import subprocess
import tarfile
import tempfile

from benchmarks.common.provenance import PROJECT, commit_of

PACKAGE = "tfrs_negatives"


@contextlib.contextmanager
def package_of(source):
    """A folder that holds the package alone, and what it is called in a table.

    A worker that runs there imports this package, and all else from this project.

    Args:
      source: A commit of this repository, or the folder of a checkout, whose files
        are taken as they are.
    """
    with tempfile.TemporaryDirectory() as folder:
        checkout = pathlib.Path(source)
        if (checkout / PACKAGE).is_dir():
            pathlib.Path(folder, PACKAGE).symlink_to((checkout / PACKAGE).resolve())
            yield folder, commit_of(checkout)
            return
        name = _git("rev-parse", "--short", f"{source}^{{commit}}").decode().strip()
        archive = pathlib.Path(folder, "package.tar")
        archive.write_bytes(_git("archive", name, PACKAGE))
        with tarfile.open(archive) as packed:
            packed.extractall(folder, filter="data")
        archive.unlink()
        yield folder, name


def _git(*words):
    try:
        return subprocess.run(
            ["git", *words], cwd=PROJECT, capture_output=True, check=True
        ).stdout
    except subprocess.CalledProcessError as error:
        message = error.stderr.decode().strip()
        raise SystemExit(f"git {' '.join(words)}: {message}") from error
