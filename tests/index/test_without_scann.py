"""What there is, and what is said, where ScaNN is missing or does not load."""

import subprocess
import sys
import types

import numpy as np
import pytest
import tensorflow as tf

from tfrs_negatives.audit import audited_models
from tfrs_negatives.index import BruteForce, ScaNN, quality_report
from tfrs_negatives.pipeline.saved_tower import SavedTower
from tfrs_negatives.recommender.export import default_index

OPS = "scann.scann_ops.py.scann_ops"


@pytest.fixture(params=["missing", "broken"])
def no_scann(request, monkeypatch):
    """ScaNN is not installed, or was built for another TensorFlow."""
    if request.param == "missing":
        monkeypatch.setitem(sys.modules, "scann", None)
        monkeypatch.setitem(sys.modules, OPS.rpartition(".")[0], None)
        return

    class Finder:
        def find_spec(self, name, path, target=None):
            if name == OPS:
                raise tf.errors.NotFoundError(None, None, "undefined symbol")

    for name in ("scann", "scann.scann_ops", "scann.scann_ops.py"):
        package = types.ModuleType(name)
        package.__path__ = []
        monkeypatch.setitem(sys.modules, name, package)
    monkeypatch.delitem(sys.modules, OPS, raising=False)
    monkeypatch.setattr(sys, "meta_path", [Finder(), *sys.meta_path])


def test_brute_force_is_offered(no_scann):
    rows = np.ones([4, 2], np.float32)
    for use in (ScaNN, lambda: quality_report(rows, rows, [{}], k=1)):
        with pytest.raises(ImportError) as error:
            use()
        assert f"with TensorFlow {tf.__version__}" in str(error.value)
        assert "pip install tfrs_negatives[scann]" in str(error.value)
        assert "BruteForce" in str(error.value)


def test_tfrs_fails_with_a_scann_of_another_tensorflow(keras_2, tmp_path):
    (tmp_path / "scann").mkdir()
    (tmp_path / "scann" / "__init__.py").write_text(
        "import tensorflow as tf\n"
        "raise tf.errors.NotFoundError(None, None, 'undefined symbol')\n"
    )
    path = f"import sys; sys.path.insert(0, {str(tmp_path)!r})"
    code = f"{path}; import tfrs_negatives.tasks"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("ImportError: TensorFlow Recommenders imports scann")
    assert "`pip uninstall scann`" in last


def test_models_that_hold_its_operations_name_it(no_scann, monkeypatch, tmp_path):
    message = r"pip install tfrs_negatives\[scann\]"
    with pytest.raises(ImportError, match=f"index in 'm' needs scann.*{message}"):
        audited_models._load("m", {"scann": "1.4.2"})

    def load(path):
        raise tf.errors.NotFoundError(None, None, "no op 'Scann>ScannSearchBatched'")

    tf.saved_model.save(tf.Module(), str(tmp_path))
    monkeypatch.setattr(tf.saved_model, "load", load)
    with pytest.raises(ImportError, match=message):
        SavedTower.found(str(tmp_path), "serving_default")


def test_exports_have_an_exact_index(no_scann):
    assert type(default_index()) is BruteForce
