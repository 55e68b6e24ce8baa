"""What all tests share: two logical CPUs, real data sets where they are found, and the slow ones only on demand."""

from __future__ import annotations

import functools
import os
import random
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

import tfopt
from tfopt import backend

# Files whose tests need no TensorFlow in their own process: run alone, they don't wait the five seconds that its import takes.
LIGHT = {"test_architecture.py", "test_cli.py", "test_errors.py", "test_imports.py", "test_options.py", "test_packaging.py",
         "test_recipes.py", "test_scripts.py", "test_types.py"}  # fmt: skip
MISSING = "missing data: "


def pytest_addoption(parser):
    parser.addoption("--slow", action="store_true", help="run the tests marked slow, too")


def pytest_configure(config):
    config.addinivalue_line("markers", "slow: takes long; runs only with --slow")


def pytest_collection_modifyitems(config, items):
    if not config.getoption("--slow"):
        for item in items:
            if item.get_closest_marker("slow"):
                item.add_marker(pytest.mark.skip(reason="slow; runs with --slow"))


def pytest_collection_finish(session):
    """Splits the CPU in two for the tests of strategies: possible only before TensorFlow's first operation, so before any test."""
    if session.config.option.collectonly or all(item.path.name in LIGHT for item in session.items):
        return
    tf = backend.tensorflow()
    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item):
    """Whatever a test draws at random (weights above all) is the same in each run: before its fixtures, which may train a model."""
    random.seed(0)
    np.random.seed(0)
    if "tensorflow" in sys.modules:
        backend.keras().utils.set_random_seed(0)


def pytest_terminal_summary(terminalreporter):
    skipped = [report for report in terminalreporter.stats.get("skipped", []) if MISSING in str(report.longrepr)]
    if skipped:
        terminalreporter.write_line(f"{len(skipped)} tests skipped for missing data (TFOPT_DATA names its folder)", yellow=True)


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory):
    """What tfopt finds out about this machine is kept for the tests alone."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session")
def data_folder():
    """`data_folder(name) -> Path`: the folder or file `name` of the real data; skips where it is missing, fails where it must be there."""
    return lambda name: _found(_data() / name, "names the folder of the real data sets")


@pytest.fixture(scope="session")
def unpackable(data_folder, tmp_path_factory):
    """`unpackable(name) -> Path`: a session's one copy of an archive of the real data, beside which it may be unpacked."""
    return functools.cache(lambda name: Path(shutil.copyfile(data_folder(name), tmp_path_factory.mktemp("archive") / Path(name).name)))


@pytest.fixture(scope="session")
def models_folder():
    """`models_folder(name) -> Path`: the same for published models, in the folder "models" beside that of the data."""
    return lambda name: _found(_data().parent / "models" / name, "names the folder of the real data sets, beside which stands models")


def _data() -> Path:
    return Path(os.environ.get("TFOPT_DATA") or Path(__file__).resolve().parents[2] / "shared" / "data")


def _found(path: Path, meaning: str) -> Path:
    if not path.exists():
        reason = f"{MISSING}{path} is not there; TFOPT_DATA {meaning}"
        if os.environ.get("CI") == "true" or os.environ.get("TFOPT_REQUIRE_DATA") == "1":
            pytest.fail(reason)
        pytest.skip(reason)
    return path


@pytest.fixture(scope="session")
def digits():
    """The 1,797 scanned digits, as `tfopt.datasets.digits()` gives them."""
    return tfopt.datasets.digits()
