"""Options and helpers that all tests share."""

import os
import pathlib
import shutil

import pytest

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")


def pytest_addoption(parser):
    parser.addoption("--slow", action="store_true", help="run the slow tests too")


def pytest_configure():
    import tensorflow as tf

    # Must precede anything else that TensorFlow does.
    device = tf.config.list_physical_devices("CPU")[0]
    four = [tf.config.LogicalDeviceConfiguration()] * 4
    tf.config.set_logical_device_configuration(device, four)


def pytest_make_parametrize_id(val, argname):
    """Bytes are named by their argument: two processes may draw or pack other bytes."""
    return argname if isinstance(val, bytes) else None


def pytest_collection_modifyitems(config, items):
    from grids import HAS_SCANN

    from tfrs_negatives._keras import IS_KERAS_3

    free = _free_of_keras(items) if IS_KERAS_3 else set()
    for item in items:
        if item.path in free:
            item.add_marker(pytest.mark.slow(reason="no Keras: fast under Keras 2"))
        reasons = [mark.kwargs.get("reason") for mark in item.iter_markers("slow")]
        if not all(reasons):
            raise pytest.UsageError(f"{item.nodeid} is slow without a `reason=`")
        if reasons and not config.getoption("--slow"):
            item.add_marker(pytest.mark.skip(reason=f"slow: {reasons[0]}"))
        if not HAS_SCANN and _needs_scann(item):
            reason = "no ScaNN: pip install tfrs_negatives[scann]"
            item.add_marker(pytest.mark.skip(reason=reason))


def _needs_scann(item):
    """Whether a test is marked so, or one of its parameters is or names `ScaNN`.

    Only where the package is missing: where it does not load, tests fail.
    """
    if item.get_closest_marker("scann"):
        return True
    parameters = item.callspec.params.values() if hasattr(item, "callspec") else ()
    for value in parameters:
        for each in value if isinstance(value, tuple) else (value,):
            name = each.__name__ if isinstance(each, type) else each
            if isinstance(name, str) and name == "ScaNN":
                return True
    return False


# Of Keras these folders and files use no more than its progress bar, its names of
# classes, and metrics and tasks that other files try under both. Where a test brings in
# Keras itself, its file says so and runs under both.
FREE_OF_KERAS = (
    "audit",
    "cli/test_answer_lines.py",
    "cli/test_comparison.py",
    "cli/test_output_folder.py",
    "cli/test_query_options.py",
    "cli/test_report_page.py",
    "cli/test_trade_off.py",
    "data",
    "index/filters",
    "index/shards",
    "index/live",
    "index/mining",
    "index/test_collect_embeddings.py",
    "index/test_excluded_histories.py",
    "index/test_export_folder.py",
    "index/test_identifiers.py",
    "index/test_quality_report.py",
    "index/test_recall_sample.py",
    "index/test_scann_storage.py",
    "losses",
    "metrics/test_corpus_recall_sources.py",
    "metrics/test_ranks.py",
    "recommender/test_popularity_tradeoff.py",
    "recommender/test_tie_order.py",
    "recommender/test_time_split.py",
    "pipeline",
    "samplers/test_item_corpus.py",
    "samplers/test_mined.py",
    "samplers/test_mixture.py",
    "samplers/test_sampler.py",
    "serving",
    "tasks/test_retrieval_negative_metrics.py",
    "tasks/test_retrieval_strata.py",
    "teachers",
    "test_deploy.py",
)


def _free_of_keras(items):
    """Paths of the modules that one Keras is enough for."""
    here = pathlib.Path(__file__).parent
    paths = {item.path for item in items}
    return {
        path
        for path in paths
        if any(path.is_relative_to(here / name) for name in FREE_OF_KERAS)
        and "keras" not in path.read_text().lower()
    }


@pytest.fixture(scope="session")
def keras_2():
    """Skips a test that compares with TensorFlow Recommenders under Keras 3."""
    from tfrs_negatives._keras import IS_KERAS_3

    if IS_KERAS_3:
        pytest.skip("needs TensorFlow Recommenders, hence TF_USE_LEGACY_KERAS=1")


@pytest.fixture(scope="session")
def browser(tmp_path_factory):
    """Headless Chromium."""
    import html_pages

    webdriver = pytest.importorskip(
        "selenium.webdriver", reason="selenium is missing: pip install selenium"
    )
    driver = shutil.which("chromedriver")
    found = map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))
    binary = next(filter(None, found), None)
    if driver is None or binary is None:
        pytest.skip("no Chromium: apt-get install chromium chromium-driver")
    options = webdriver.ChromeOptions()
    options.binary_location = binary
    for flag in html_pages.FLAGS:
        options.add_argument(flag)
    options.add_argument(f"--user-data-dir={tmp_path_factory.mktemp('profile')}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    service = webdriver.ChromeService(driver)
    chrome = webdriver.Chrome(options=options, service=service)
    yield chrome
    chrome.quit()


def _mirrored(num_replicas):
    import tensorflow as tf

    return tf.distribute.MirroredStrategy(
        [f"CPU:{place}" for place in range(num_replicas)],
        # The default's collectives of a second strategy would clash with the first's.
        cross_device_ops=tf.distribute.ReductionToOneDevice(),
    )


@pytest.fixture(scope="session")
def two_replicas():
    """A strategy over two logical devices of this machine's processor."""
    return _mirrored(2)


@pytest.fixture(scope="session")
def four_replicas():
    """The same over four."""
    return _mirrored(4)


@pytest.fixture(scope="session")
def data_dir():
    """The folder of real data sets, from TFRS_NEGATIVES_DATA."""
    default = pathlib.Path(__file__).parents[2] / "shared" / "data"
    folder = pathlib.Path(os.environ.get("TFRS_NEGATIVES_DATA", default))
    if not folder.is_dir():
        pytest.skip(f"no real data in {folder}: set TFRS_NEGATIVES_DATA")
    return folder
