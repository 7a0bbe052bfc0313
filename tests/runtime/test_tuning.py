"""Tuning: what is tried, what is kept, and that a process that dies loses nothing."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from npuc.compiler import driver
from npuc.compiler.diagnostics import BackendError
from npuc.compiler.frontend.attention import Attention
from npuc.passes.attention.choose import candidates, make_plan
from npuc.passes.options import Options
from npuc.runtime import distribute, tuning

T = "tensor<1x1x64x64xbf16>"
SMALL = f"""func.func @small(%q: {T}, %k: {T}, %v: {T}) -> {T} {{
  %o = "attn.sdpa"(%q, %k, %v) : ({T}, {T}, {T}) -> {T}
  return %o : {T}
}}
"""
SHAPE = Attention.make(heads=1, query_length=64, head_dim=64)


def square(number: int) -> int:
    return number * number


def dies_once(item: tuple[str, int]) -> int:
    """Ends its process by force the first time that it meets the number 3."""
    folder, number = item
    mark = Path(folder, "died")
    if number == 3 and not mark.exists():
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return number + 1


def dies(number: int) -> int:
    if number == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def test_the_planners_own_choice_comes_first_and_none_comes_twice():
    found = candidates(SHAPE, 1000)
    plan = make_plan(SHAPE, Options())
    first = found[0]
    assert (first.columns, first.options["query_block"]) == (plan.columns, str(plan.query_block))
    assert first.predicted == plan.estimate.total
    assert len({(c.columns, *sorted(c.options.items())) for c in found}) == len(found) > 10


def test_every_candidate_is_a_plan_that_compile_makes():
    for candidate in candidates(SHAPE, 12):
        plan = make_plan(SHAPE, Options(candidate.columns, options=candidate.options))
        assert plan.estimate.total == candidate.predicted and plan.columns == candidate.columns


def test_work_is_shared_out_and_every_result_comes_once():
    assert sorted(distribute.results(square, range(7), workers=2)) == [(n, n * n) for n in range(7)]
    assert list(distribute.results(square, [3])) == [(0, 9)]


@pytest.mark.skipif(os.name == "nt", reason="processes end otherwise")
def test_a_process_that_dies_loses_nothing(tmp_path):
    items = [(str(tmp_path), number) for number in range(6)]
    assert sorted(distribute.results(dies_once, items, workers=2)) == [(n, n + 1) for n in range(6)]
    assert (tmp_path / "died").exists()


@pytest.mark.skipif(os.name == "nt", reason="processes end otherwise")
def test_an_item_that_ends_every_process_is_named():
    with pytest.raises(BackendError, match="work item 1 ended every process that took it, 3 times"):
        list(distribute.results(dies, range(3), workers=2))


@pytest.fixture
def fake(monkeypatch):
    """Cycles by a formula, and what was measured: the third candidate is the fastest."""
    asked = []

    def measured(job):
        asked.append(job)
        return {"error": "no"} if len(asked) == 2 else {"cycles": 1000 - 100 * (len(asked) == 3)}

    monkeypatch.setattr(tuning, "measured", measured)
    return asked


@pytest.fixture
def empty_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("NPUC_CACHE_DIR", str(tmp_path / "cache"))


def test_the_best_is_kept_for_compile_and_only_there(npuc, tmp_path, fake, empty_cache):
    source = tmp_path / "a.mlir"
    source.write_text(SMALL)
    plain = driver.compile_file(str(source), driver.Settings(use_cache=False))
    code, out, _ = npuc("tune", source, "--trials", 4, "--json")
    report = json.loads(out)
    assert code == 0 and report["best"]["number"] == 2 and report["gain"] == pytest.approx(1000 / 900)
    assert [("error" in t) for t in report["trials"]] == [False, True, False, False]
    kept = driver.compile_file(str(source))
    about = kept.summary["tuned"]
    assert kept.cached and about["cycles"] == 900 and about["trials"] == 4
    plan = kept.summary["kernels"][0]["plan"] if "plan" in kept.summary["kernels"][0] else kept.summary["plan"]
    assert plan["columns"] == about["columns"] and str(plan["query_block"]) == about["options"]["query_block"]
    again = driver.compile_file(str(source), driver.Settings(use_cache=False))
    assert again.files["kernel.xclbin"] == plain.files["kernel.xclbin"] and "tuned" not in again.summary
    code, out, _ = npuc("compile", source, "-o", tmp_path / "k.xclbin")
    assert code == 0 and "tuned" in out and (tmp_path / "k.xclbin").read_bytes() == kept.files["kernel.xclbin"]


def test_what_was_measured_is_not_measured_again(npuc, tmp_path, fake, empty_cache):
    source = tmp_path / "a.mlir"
    source.write_text(SMALL)
    first = json.loads(npuc("tune", source, "--trials", 3, "--json")[1])
    assert len(fake) == 3 and not any(t["known"] for t in first["trials"])
    second = json.loads(npuc("tune", source, "--trials", 5, "--json")[1])
    assert len(fake) == 5 and [t["known"] for t in second["trials"]] == [True] * 3 + [False] * 2
    assert second["best"] == {**first["best"], "known": True}


def test_an_interrupted_search_keeps_what_it_had(tmp_path, monkeypatch, empty_cache):
    asked = []

    def interrupted(job):
        if len(asked) == 2:
            raise KeyboardInterrupt
        asked.append(job)
        return {"cycles": 7}

    monkeypatch.setattr(tuning, "measured", interrupted)
    with pytest.raises(KeyboardInterrupt):
        tuning.tune(SHAPE, 4, "phoenix", lambda _: None)
    monkeypatch.setattr(tuning, "measured", lambda job: asked.append(job) or {"cycles": 8})
    trials = tuning.tune(SHAPE, 4, "phoenix", lambda _: None)
    assert [t.cycles for t in trials] == [7, 7, 8, 8] and len(asked) == 4


def test_real_trials_give_the_same_on_one_process_and_on_two(tmp_path, monkeypatch):
    found = []
    for workers in (1, 2):
        monkeypatch.setenv("NPUC_CACHE_DIR", str(tmp_path / str(workers)))
        found.append(tuning.tune(SHAPE, 2, "phoenix", lambda _: None, workers))
    assert found[0] == found[1] and all(trial.cycles for trial in found[0])


@pytest.mark.parametrize("words", [("-",), ("a.mlir", "--trials", "0"), ("a.mlir", "--workers", "0")])
def test_wrong_usage(npuc, tmp_path, monkeypatch, words):
    monkeypatch.chdir(tmp_path)
    Path("a.mlir").write_text(SMALL)
    code, _, err = npuc("tune", *words)
    assert code == 2 and err.startswith("error: ") and err.count("\n") == 1


def test_no_scheduler_there_is_one_error(npuc, tmp_path, monkeypatch):
    pytest.importorskip("distributed")
    monkeypatch.setattr(distribute, "CONNECT_SECONDS", 1)
    source = tmp_path / "a.mlir"
    source.write_text(SMALL)
    code, _, err = npuc("tune", source, "--trials", "2", "--scheduler", "tcp://127.0.0.1:9")
    assert code == 4 and "no Dask scheduler answers" in err and "Traceback" not in err


@pytest.fixture
def found_by_processes(monkeypatch):
    """Processes that a test starts find the functions of this file."""
    folders = (str(Path(__file__).parent), os.environ.get("PYTHONPATH"))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, folders)))


@pytest.mark.usefixtures("found_by_processes")
def test_a_cluster_gives_the_same_and_a_lost_worker_loses_nothing(tmp_path):
    distributed = pytest.importorskip("distributed")
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None, host="127.0.0.1", silence_logs=50
    ) as cluster:
        items = [(str(tmp_path), number) for number in range(6)]
        found = distribute.results(dies_once, items, scheduler=cluster.scheduler_address)
        assert sorted(found) == [(n, n + 1) for n in range(6)]
    assert (tmp_path / "died").exists()


def children(process: int) -> list[int]:
    """Processes that work for one."""
    found = Path(f"/proc/{process}/task/{process}/children").read_text().split()
    return [int(child) for child in found if "spawn_main" in Path(f"/proc/{child}/cmdline").read_text()]


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="needs /proc")
def test_a_search_goes_on_after_its_worker_and_itself_were_killed(npuc, tmp_path, monkeypatch):
    monkeypatch.setenv("NPUC_CACHE_DIR", str(tmp_path / "cache"))
    source = tmp_path / "a.mlir"
    source.write_text(SMALL)
    words = [sys.executable, "-m", "npuc", "tune", str(source), "--trials", "5", "--workers", "2"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as search:
        assert search.stdout is not None
        lines = [search.stdout.readline()]
        os.kill(children(search.pid)[0], signal.SIGKILL)
        lines.append(search.stdout.readline())
        search.kill()
    assert all("cycles" in line for line in lines)
    killed = json.loads(npuc("tune", source, "--trials", 5, "--json")[1])
    assert sum(trial["known"] for trial in killed["trials"]) >= 2
    monkeypatch.setenv("NPUC_CACHE_DIR", str(tmp_path / "other"))
    whole = json.loads(npuc("tune", source, "--trials", 5, "--json")[1])
    assert {t["number"]: t["cycles"] for t in whole["trials"]} == {t["number"]: t["cycles"] for t in killed["trials"]}
    assert whole["best"]["number"] == killed["best"]["number"]


DRIVER = """
from npuc.runtime.distribute import results
from test_tuning import waits
if __name__ == "__main__":
    list(results(waits, [1, 2], workers=2))
"""


def waits(number: int) -> None:
    print("begun", flush=True)
    while number:
        signal.pause()


@pytest.mark.skipif(not hasattr(signal, "pause"), reason="POSIX")
@pytest.mark.usefixtures("found_by_processes")
def test_processes_end_with_the_one_that_made_them(tmp_path):
    """Their standard output, which is the driver's, ends when the last of them has."""
    script = tmp_path / "driver.py"
    script.write_text(DRIVER)
    with subprocess.Popen([sys.executable, script], stdout=subprocess.PIPE, text=True) as process:
        assert [process.stdout.readline() for _ in range(2)] == ["begun\n"] * 2
        process.kill()
        rest, _ = process.communicate(timeout=120)
    assert rest == ""


def test_there_are_no_more_plans_than_there_are(npuc, tmp_path, monkeypatch, empty_cache):
    monkeypatch.setattr(tuning, "measured", lambda job: {"cycles": 1000 + job.seed})
    source = tmp_path / "a.mlir"
    source.write_text(SMALL)
    code, out, _ = npuc("tune", source, "--trials", 10_000)
    assert code == 0 and f"these are all {len(candidates(SHAPE, 10_000))} plans" in out
    other = json.loads(npuc("tune", source, "--trials", 1, "--seed", 5, "--json")[1])
    assert other["best"]["cycles"] == 1005 and not other["best"]["known"]
