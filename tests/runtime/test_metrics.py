"""What calls took, as programs that watch get it."""

from __future__ import annotations

import errno
import re
from collections.abc import Iterator
from types import SimpleNamespace

import pytest
from small_kernels import compiled

import npuc
import npuc.metrics
from npuc.runtime.arguments import draw
from npuc.runtime.devices import system_calls
from npuc.runtime.devices.software import SoftwareDevice
from npuc.runtime.metrics import Event, Metrics


@pytest.fixture
def device() -> Iterator[SoftwareDevice]:
    npuc.metrics.reset()
    made = SoftwareDevice()
    with system_calls.replaced(made):
        yield made
    npuc.metrics.reset()


def values(name: str) -> dict[tuple[str, ...], float]:
    """By the values of the labels, these in the order of their names."""
    return {tuple(one["labels"].values()): one["value"] for one in npuc.metrics.snapshot()[name]}


def test_calls_failures_reloads_and_fallbacks_are_counted(device):
    events, recorded = [], []
    end = npuc.metrics.listen(events.append)
    meter = SimpleNamespace(
        create_counter=lambda name, description: SimpleNamespace(
            add=lambda value, attributes: recorded.append((name, value, attributes))
        ),
        create_histogram=lambda name, unit, description: SimpleNamespace(
            record=lambda value, attributes: recorded.append((name, value, attributes))
        ),
    )
    stop = npuc.metrics.opentelemetry(meter)
    with npuc.load(compiled(1).xclbin, backend="amdxdna", fallback=("reference",)) as exe:
        arrays = draw(exe.kernel.arguments, 0)
        exe(**arrays)
        exe.submit(**arrays).result()
        device.faults.fail("EXEC_CMD", errno.EIO)
        exe(**arrays)
        device.faults.fail("EXEC_CMD", errno.EIO)
        device.faults.fail("EXEC_CMD", errno.EIO)
        exe(**arrays)
    end(), stop()
    name = exe.kernel.name
    assert values("npuc_calls_total") == {("amdxdna", name): 3, ("reference", name): 1}
    assert values("npuc_failures_total") == {("amdxdna", name, "EIO"): 3}
    assert values("npuc_reloads_total") == {("amdxdna", name): 2}
    assert values("npuc_fallbacks_total") == {("amdxdna", name, "reference"): 1}
    times = {tuple(t["labels"].values()): t for t in npuc.metrics.snapshot()[npuc.metrics.SECONDS]}
    assert times["amdxdna", name]["count"] == 3 and times["amdxdna", name]["sum"] > 0
    assert [(e.name, e.value, dict(e.labels)) for e in events] == recorded and len(events) == 4 + 4 + 3 + 2 + 1


def test_emulated_cycles_are_counted_and_prometheus_can_read_it(device):
    with npuc.load(compiled(1).xclbin, backend="emulator", fallback=()) as exe:
        exe(**draw(exe.kernel.arguments, 0))
        cycles = exe.stats.cycles
    text = npuc.metrics.prometheus()
    name = exe.kernel.name
    assert f'npuc_cycles_total{{backend="emulator",kernel="{name}"}} {cycles}\n' in text
    line = re.compile(r'^(# (HELP|TYPE) \w+ .+|\w+(\{\w+="[^"]*"(,\w+="[^"]*")*\})? [0-9.e+-]+)$')
    assert all(line.match(one) for one in text.splitlines()) and text.endswith("\n")
    buckets = [int(n) for n in re.findall(rf'npuc_call_seconds_bucket{{.*kernel="{name}".*}} (\d+)', text)]
    assert buckets == sorted(buckets) and buckets[-1] == 1
    npuc.metrics.reset()
    assert not any(npuc.metrics.snapshot().values())


def test_a_listener_that_raises_breaks_no_call_and_others_hear_all_the_same() -> None:
    metrics, heard = Metrics(), []

    def raises(event: Event) -> None:
        raise ValueError("out of order")

    first, second = metrics.listen(raises), metrics.listen(heard.append)
    metrics.count("npuc_calls_total", 1, kernel="k", backend="b")
    metrics.time(0.5, kernel="k", backend="b")
    assert [event.value for event in heard] == [1, 0.5]
    for end in (first, first, second):
        end()
    metrics.time(0.5, kernel="k", backend="b")
    assert len(heard) == 2
