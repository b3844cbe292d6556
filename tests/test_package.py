import ast
import collections
import configparser
import importlib
import os
import pathlib
import re
import subprocess
import sys

import pytest
from grids import only_under

import tfrs_negatives
from tfrs_negatives import layers, losses, metrics, samplers


def test_public_names():
    """The golden list: a name enters or leaves on purpose."""
    expected = {
        "audit": [
            "AuditTable",
            "load_model",
            "measure",
            "mixture",
            "page",
            "read_table",
            "summary",
        ],
        "callbacks": ["EvaluateCorpus", "NegativesCurriculum", "RefreshNegatives"],
        "data": [
            "Interactions",
            "KeyedFeatures",
            "Positives",
            "RequestCounts",
            "UserHistories",
            "count_ids",
            "features_of",
            "group_by_request",
            "histories_of",
            "interactions",
            "positives_of",
            "spread_requests",
            "stream_interactions",
        ],
        "index": [
            "BruteForce",
            "LiveAnswer",
            "LiveIndex",
            "RankedPairs",
            "ScaNN",
            "export_live_retrieval",
            "export_query_tower",
            "export_retrieval",
            "load_retrieval",
            "mine_hard_negatives",
            "quality_report",
            "shard_query",
        ],
        "distribute": ["gather", "num_replicas", "place", "rows_before", "total"],
        "layers": [
            "CrossBatchMemory",
            "MixedLogQ",
            "OncePerKey",
            "PriorCorrection",
            "ScaledLogQ",
            "StaticFrequency",
            "StreamingFrequency",
        ],
        "losses": [
            "FalseNegativeFilter",
            "SampledSigmoid",
            "SampledSoftmax",
            "top_k_weights",
        ],
        "metrics": [
            "CorpusRecall",
            "DistinctKeys",
            "FalseNegativeRate",
            "LogQError",
            "MaskRate",
            "NegativeHardness",
            "NegativeMetric",
            "NegativeMix",
            "Negatives",
            "PopularityBands",
            "PopularityShare",
        ],
        "models": ["Model", "TwoTower"],
        "optimizers": ["LazyAdam"],
        "pipeline": [
            "BeamEngine",
            "audit_table",
            "corpus_recall",
            "count_column",
            "embed_rows",
            "mine_negatives",
            "order_by_request",
            "read_counts",
            "read_embeddings",
            "read_negatives",
            "split_by_time",
        ],
        "recommender": ["Recommender", "Settings", "Source"],
        "samplers": [
            "Catalogue",
            "Mined",
            "Mixture",
            "Popularity",
            "Stratified",
            "Uniform",
            "cluster_strata",
        ],
        "serving": [
            "AdminToken",
            "Limits",
            "QueryToken",
            "RemoteShard",
            "Server",
            "Service",
            "TlsFiles",
            "VersionPolicy",
            "rest_app",
        ],
        "tasks": ["Retrieval"],
        "teachers": ["EASE", "Histories", "ItemNeighbours", "Suggestions", "blend"],
        "towers": [
            "Categorical",
            "Date",
            "Feature",
            "History",
            "Id",
            "Numeric",
            "Text",
            "Tower",
            "features_for",
        ],
    }
    names = set(dir(tfrs_negatives)) - {"__version__", "Recommender"}
    assert sorted(expected) == sorted(names)
    assert tfrs_negatives.Recommender is tfrs_negatives.recommender.Recommender
    for package, names in expected.items():
        module = getattr(tfrs_negatives, package)
        public = [name for name in module.__all__ if name[0] != "_"]
        assert sorted(public) == sorted(names)
        for name in names:
            assert getattr(module, name).__doc__.strip()


def test_unknown_names_are_attribute_errors():
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        tfrs_negatives.nothing  # noqa: B018


def test_no_two_modules_or_classes_share_a_name():
    """A name says what it is of without its folder."""
    root = pathlib.Path(tfrs_negatives.__file__).parent
    modules = [path for path in root.rglob("*.py") if path.name[:2] != "__"]
    assert len(modules) > 100
    classes = [
        node.name
        for path in modules
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.ClassDef)
    ]
    for names in ([path.name for path in modules], classes):
        counts = collections.Counter(names)
        assert not [name for name, count in counts.items() if count > 1]


def in_new_process(code, **environment):
    return subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def test_importing_the_package_does_not_import_tensorflow():
    code = "import sys, tfrs_negatives.cli; assert 'tensorflow' not in sys.modules"
    result = in_new_process(code)
    assert result.returncode == 0, result.stderr


@only_under(keras_3=True, reason="a process with Keras 3, whichever starts it")
def test_keras_3_never_imports_tfrs():
    names = [name for name in dir(tfrs_negatives) if name != "__version__"]
    code = (
        "import sys, tfrs_negatives\n"
        f"for name in {names!r}:\n"
        "    getattr(tfrs_negatives, name)\n"
        "assert 'tensorflow_recommenders' not in sys.modules\n"
        "assert 'tf_keras' not in sys.modules\n"
    )
    result = in_new_process(code, TF_USE_LEGACY_KERAS="0")
    assert result.returncode == 0, result.stderr


@pytest.mark.slow(reason="test_without_the_extra says it of the command")
def test_serving_needs_its_extra_only_when_used():
    code = (
        "import sys\n"
        "names = 'fastapi', 'grpc', 'grpc_health', 'tensorflow_serving', 'uvicorn'\n"
        "for name in names:\n"
        "    sys.modules[name] = None\n"
        "import tfrs_negatives as tn\n"
        "assert tn.serving.Limits().max_batch > 0\n"
        "for name in ('Server', 'TlsFiles', 'rest_app'):\n"
        "    try:\n"
        "        getattr(tn.serving, name)\n"
        "    except ImportError as error:\n"
        "        assert 'pip install tfrs_negatives[serve]' in str(error), error\n"
        "    else:\n"
        "        raise AssertionError(name)\n"
    )
    result = in_new_process(code)
    assert result.returncode == 0, result.stderr


def test_scann_alone_holds_tensorflow_to_one_version():
    """And no extra for users brings it in."""
    root = pathlib.Path(__file__).parents[1]
    setup = configparser.ConfigParser()
    setup.read(root / "setup.cfg")
    extras = setup["options.extras_require"]
    assert {name for name in extras if "tensorflow ~=" in extras[name]} == {"scann"}
    own = re.compile(r"^tfrs_negatives\[(.*)\]$", re.MULTILINE)
    brings = {name for name in extras if "scann" in ",".join(own.findall(extras[name]))}
    assert brings == {"test"}
    everywhere = setup["options"]["install_requires"]
    assert "tensorflow >=" in everywhere and "scann" not in everywhere


def test_version_is_the_literal():
    version = importlib.import_module("tfrs_negatives.version").__version__
    assert tfrs_negatives.__version__ == version
    assert importlib.metadata.version("tfrs_negatives") == version
    root = pathlib.Path(__file__).parents[1]
    assert f"\nversion: {version}\n" in (root / "CITATION.cff").read_text()
    assert f"\n## [{version}] - " in (root / "CHANGELOG.md").read_text()


@pytest.mark.parametrize(
    "make, name",
    [
        (lambda: layers.StreamingFrequency(learning_rate="0.1"), "learning_rate"),
        (lambda: layers.StreamingFrequency(initial_gap="100"), "initial_gap"),
        (lambda: layers.StaticFrequency([1, 2], smoothing="1"), "smoothing"),
        (lambda: layers.CrossBatchMemory("100", 8), "capacity"),
        (lambda: losses.SampledSigmoid(negative_weight="2"), "negative_weight"),
        (lambda: losses.SampledSoftmax("0.1"), "temperature"),
        (lambda: metrics.PopularityShare([1, 2], top="0.5"), "top"),
        (lambda: samplers.Popularity([7, 8], [1, 2], power="0.75"), "power"),
    ],
)
def test_text_for_a_number_is_named(make, name):
    with pytest.raises(ValueError, match=f"`{name}` must be .*received '"):
        make()
