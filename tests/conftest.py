"""What all tests share: the fact sheets' place, the seed, a compile cache of their own."""

from __future__ import annotations

import gc
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import hypothesis
import pytest

REPOSITORY = Path(__file__).resolve().parent.parent
DEFAULT_SEED = 20240
SEED = int(os.environ.get("NPUC_TEST_SEED", DEFAULT_SEED))

# Judged by results, never by the time they take on a busy machine; other examples each run where a seed is given.
EXAMPLES = int(os.environ.get("NPUC_TEST_EXAMPLES", 25))
hypothesis.settings.register_profile(
    "npuc",
    max_examples=EXAMPLES,
    deadline=None,
    database=None,
    derandomize="NPUC_TEST_SEED" not in os.environ,
    print_blob=True,
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
)
hypothesis.settings.load_profile("npuc")


gc.disable()  # while modules are imported and tests collected: what that makes stays


def pytest_collection_finish() -> None:
    gc.enable()


def pytest_addoption(parser: pytest.Parser) -> None:
    """What campaigns of many random cases run on: the options of `npuc tune`."""
    group = parser.getgroup("npuc", "npuc: long campaigns")
    group.addoption("--workers", type=int, default=1, help="run campaigns on so many processes")
    group.addoption("--scheduler", help="or on a Dask cluster, whose workers have the tests' folders in PYTHONPATH")


@pytest.fixture(scope="session")
def processes(pytestconfig: pytest.Config) -> dict[str, Any]:
    """`workers` and `scheduler` for npuc.runtime.distribute."""
    return {"workers": pytestconfig.getoption("--workers"), "scheduler": pytestconfig.getoption("--scheduler")}


def pytest_report_header() -> str:
    return f"npuc: seed {SEED} (NPUC_TEST_SEED)"


@pytest.fixture(scope="module", autouse=True)
def only_new_garbage() -> None:
    """The search for garbage in cycles need not look at what imports and the modules before this one left; that took a
    seventh of the session."""
    gc.collect()
    gc.freeze()


@pytest.fixture
def no_search() -> Iterator[None]:
    """Garbage in cycles stays: what a test sees released was released at once."""
    gc.disable()
    yield
    gc.enable()


@pytest.fixture
def seed() -> int:
    """The seed of a random test; printed, so that a failure shows it."""
    print(f"seed {SEED}")
    return SEED


@pytest.fixture(scope="session")
def facts_dir() -> Path:
    """The fact sheets, NPUC_FACTS or ../shared/facts; a test that needs them is skipped where they are not."""
    folder = Path(os.environ.get("NPUC_FACTS", REPOSITORY.parent / "shared" / "facts"))
    if not folder.is_dir():
        pytest.skip("fact sheets not present (NPUC_FACTS)")
    return folder


@pytest.fixture(scope="session", autouse=True)
def cache_of_the_tests(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """One compile cache for the session, never the user's; that of all processes where there are several.

    NPUC_TEST_CACHE names a folder that is kept from one session to the next: kernels and what the emulator made of
    them are there already, then.
    """
    if "NPUC_TEST_CACHE" in os.environ:
        folder = Path(os.environ["NPUC_TEST_CACHE"]).absolute()
    elif "PYTEST_XDIST_WORKER" in os.environ:
        folder = tmp_path_factory.getbasetemp().parent / "npuc-cache"
    else:
        folder = tmp_path_factory.mktemp("npuc-cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NPUC_CACHE_DIR", str(folder))
        yield folder


@pytest.fixture
def npuc(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Runs a command in this process: (exit code, standard output, standard error)."""
    from npuc.compiler import cli

    def run(*words: object) -> tuple[int, str, str]:
        capsys.readouterr()
        with pytest.raises(SystemExit) as end:
            cli.main([str(word) for word in words])
        return (end.value.code, *capsys.readouterr())  # type: ignore[return-value]

    return run
