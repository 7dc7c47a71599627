"""What several tests share."""

import signal
import tempfile
from pathlib import Path

import pytest
import torch

from equiforce import kernels
from equiforce.kernels.cpu import build
from equiforce.storage.whole import write_bytes
from tests.fuzz.harness import share

SANITIZE = ("-fsanitize=address", "-fno-omit-frame-pointer", "-g")


def pytest_addoption(parser):
    parser.addoption(
        "--sanitize",
        action="store_true",
        help="compile the C kernels with AddressSanitizer, whose runtime has to be preloaded: make test-sanitized",
    )
    parser.addoption(
        "--fuzz-seconds", type=float, default=45.0, help="the time of all fuzzers in tests/fuzz together, in seconds"
    )


def pytest_collection_modifyitems(items):
    """Start the tutorial first: it takes minutes, and would run alone at the end."""
    items.sort(key=lambda item: "test_tutorial" not in item.nodeid)


def pytest_configure(config):
    # nohup, and a shell that starts tests in the background, let them ignore what the tests of signals send
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    if config.getoption("--sanitize"):
        folder = Path(tempfile.gettempdir()) / "equiforce-sanitized-kernels"
        folder.mkdir(exist_ok=True)
        build.FLAGS, build.LINKING = (*build.FLAGS, *SANITIZE), (*build.LINKING, *SANITIZE)
        build.PREBUILT, build.cache_folder = folder / "none", lambda: folder


@pytest.fixture(scope="session", autouse=True)
def one_thread():
    """Tests run side by side; threads on top of that only wait for one another."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of published reference data, which is not part of the repository."""
    folder = Path(__file__).parents[2] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"reference data not found at {folder}")
    return folder


@pytest.fixture
def plain_torch():
    """Computes with the reference, for tests of what a model is and not of how it is computed: nothing is compiled."""
    with kernels.using("reference"):
        yield


@pytest.fixture
def without_plots(monkeypatch):
    """Leaves out the figures of a training run, most of a tiny one's time; test_report.py and others draw them."""
    for name in ("training_plot", "parity_plot"):
        monkeypatch.setattr(f"equiforce.assessment.{name}", lambda path, *_: write_bytes(path, b"no figure"))


@pytest.fixture
def fuzz_seconds(request):
    """The seconds that a fuzzer of tests/fuzz has, from its name."""
    return lambda name: share(name, request.config.getoption("--fuzz-seconds"))
