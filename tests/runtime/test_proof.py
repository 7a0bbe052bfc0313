"""The proof ladder: it holds on the software device, and finds each device that is wrong in one thing, by its rung."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import broken_devices as broken
import pytest

import npuc.pyxrt
from npuc.compiler.emit import txn
from npuc.runtime.devices import commands, system_calls
from npuc.runtime.devices.software import SoftwareDevice, Taken
from npuc.runtime.emulator.device import Device
from npuc.runtime.proof import design, probes, rungs_basic, rungs_probes
from npuc.runtime.proof.ladder import LADDER, Climbed, Rung, climb
from npuc.runtime.proof.machine_xrt import XrtMachine
from npuc.runtime.proof.machines import DriverMachine, EmulatedMachine, Loaded, Machine
from npuc.runtime.proof.report import report
from npuc.runtime.proof.rungs_basic import random_words
from npuc.runtime.proof.settings import Settings

QUICK = Settings(repetitions=5, submissions=2, bandwidth_bytes=64 << 10, kernels=1)
NAMES = [rung.name for rung in LADDER]
Npuc = Callable[..., tuple[int, str, str]]


def climbed_on(device: SoftwareDevice, ladder: Sequence[Rung] = LADDER) -> list[Climbed]:
    with system_calls.replaced(device):
        return list(climb(DriverMachine(system_calls.present()), QUICK, ladder))


@pytest.fixture(scope="module")
def whole() -> list[Climbed]:
    """All rungs on the software device."""
    device = SoftwareDevice()
    climbed = climbed_on(device)
    assert device.taken == Taken() and device.complaints == []
    return climbed


def test_all_rungs_hold_on_the_software_device(whole: list[Climbed]) -> None:
    assert [(one.name, one.wrong) for one in whole] == [(name, None) for name in NAMES]


def test_designs_send_nothing_that_was_never_written() -> None:
    """Or results would depend on what an earlier context left; strict emulation refuses it."""
    climbed = climbed_on(SoftwareDevice(strict=True), [LADDER[NAMES.index(name)] for name in (
        "open", "copy by DMA", "one core adding", "bf16 numbers", "DDR bandwidth",
    )])  # fmt: skip
    assert [one.wrong for one in climbed] == [None] * 5


def test_what_is_measured_stands_beside_the_prediction(whole: list[Climbed]) -> None:
    """The software device computes by the emulator, so that its cores' timers show what was predicted."""
    cycles = [one for rung in whole for one in rung.findings.times if one["unit"] == "core cycles"]
    assert len(cycles) == len(probes.BANKS) + len(probes.SUB_WORD) + len(probes.DOUBTFUL)
    assert all(one["measured"] == one["predicted"] > 0 for one in cycles)
    by_name = {one["what"]: one["measured"] for one in cycles}
    conflicts = by_name["two loads of one bank"] - by_name["two loads of two banks"]
    assert conflicts == 200, "one cycle each time, as hardware has it (facts/schedule/aie2_timing_hw.md)"


def test_the_report_names_every_assumption_with_its_rung(whole: list[Climbed]) -> None:
    told = report(DriverMachine(SoftwareDevice()), whole, None)
    json.dumps(told)
    assert told["emulated"] and told["passed"] and told["failed"] is None and told["not_tried"] == []
    settles = {probe.settles for probe in (*probes.BANKS, *probes.SUB_WORD, *probes.DOUBTFUL) if probe.settles}
    settles.add(rungs_basic.SUBNORMAL)
    assert {one["assumption"] for one in told["assumptions"]} == settles
    assert all(one["holds"] and one["rung"] in NAMES for one in told["assumptions"])


def test_the_report_has_the_fields_that_are_documented(whole: list[Climbed]) -> None:
    from test_documented_json import DOCUMENTED, differences

    told = report(DriverMachine(SoftwareDevice()), whole, {"npu_usable": False, "ways": {}, "findings": []})
    failing = [*whole[:3], Climbed("copy by DMA", 0.1, wrong="wrong", remedy="do")]
    stopped = report(DriverMachine(SoftwareDevice()), failing, told["diagnosis"])
    for one in (told, stopped):
        assert not list(differences(json.loads(json.dumps(one)), DOCUMENTED["doctor --run"], "report"))
    assert stopped["not_tried"] == NAMES[4:]


def test_the_emulators_readme_lists_the_assumptions_and_their_rungs(whole: list[Climbed], facts_dir: Path) -> None:
    from conftest import REPOSITORY

    text = (REPOSITORY / "runtime" / "emulator" / "README.md").read_text()
    for rung in whole:
        for settled in rung.findings.settled:
            assert f"| {settled['assumption']} | {rung.name} |" in text


def test_the_page_for_owners_lists_the_rungs_in_order() -> None:
    from conftest import REPOSITORY

    page = (REPOSITORY / "docs" / "guides" / "npu.md").read_text()
    rows = [line.split("|")[1].strip() for line in page.splitlines() if line.startswith("| ")]
    assert [row for row in rows if row in NAMES] == NAMES
    assert all(
        words in page for words in ("usermod", "memlock", "setup.sh", "neither XRT nor pyxrt", "Sending a report")
    )


FAULTS: tuple[tuple[str, Callable[[], SoftwareDevice], str], ...] = (
    ("open", broken.does_not_open, "The device does not open"),
    ("context", broken.no_context, "CREATE_HWCTX failed with ENOENT"),
    ("no-op sequence", broken.aborts, "ABORT"),
    ("copy by DMA", broken.wrong_ddr_offset, "+4 bytes away: the DMA reads or writes DDR at a wrong offset"),
    ("copy by DMA", broken.offset_ignored, "the DMA writes DDR at a wrong offset"),
    ("copy by DMA", broken.token_lost, "TIMEOUT"),
    ("one core adding", broken.lock_off_by_one, "a lock lets a buffer be written while the core still reads it"),
    ("bf16 numbers", broken.rounding_mode, "32 to 16 bits by a shift in rounding mode 12"),
    ("banks", broken.bank_mixed_up, "two loads of one bank"),
    ("sub-word stores", broken.byte_lost, "bytes stored seven bundles apart"),
    ("doubtful pairs", broken.lands_early, "a read six bundles after its load"),
    ("attention, plain sequences", broken.third_buffer, "words of the output differ"),
    ("attention, iterated and chained sequences", broken.no_iteration, "words of the output differ"),
    ("all features", broken.ragged_end, "lengths that fill no block"),
    ("repetitions", broken.tires, "call 4 of 5 gives another output"),
    ("dispatch latency", broken.chokes, "TIMEOUT"),
    ("DDR bandwidth", broken.short_transfers, "that 1 columns wrote"),
)


@pytest.mark.parametrize(("rung", "device", "words"), FAULTS, ids=lambda value: getattr(value, "__name__", None))
def test_a_device_that_is_wrong_is_stopped_at_its_rung(
    rung: str, device: Callable[[], SoftwareDevice], words: str
) -> None:
    """The rungs below hold on it; of attention those next to it, for the time that they take."""
    at = NAMES.index(rung)
    ladder = (
        LADDER[: at + 2] if at < NAMES.index("attention, plain sequences") else (LADDER[0], *LADDER[at - 1 : at + 2])
    )
    made = device()
    climbed = climbed_on(made, ladder)
    assert [one.name for one in climbed] == [one.name for one in ladder[: [r.name for r in ladder].index(rung) + 1]]
    wrong = climbed[-1]
    assert all(one.passed for one in climbed[:-1])
    assert wrong.wrong is not None and words in wrong.wrong and LADDER[at].sentence in wrong.wrong
    assert wrong.remedy and wrong.remedy.endswith(LADDER[at].remedy)
    assert made.taken == Taken(), "all was given back"


def test_every_rung_has_a_device_that_fails_it() -> None:
    assert {rung for rung, _, _ in FAULTS} == set(NAMES)


def test_the_ladder_climbs_through_xrts_module(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyxrt", npuc.pyxrt)
    machine = XrtMachine()
    assert machine.emulated
    climbed = list(climb(machine, QUICK, LADDER[:6]))
    assert [(one.name, one.wrong) for one in climbed] == [(name, None) for name in NAMES[:6]]


@pytest.mark.parametrize("probe", [*probes.BANKS, probes.SUB_WORD[0], *probes.DOUBTFUL[:4]], ids=lambda one: one.name)
def test_sure_probes_do_nothing_that_strict_emulation_refuses(probe: probes.Probe) -> None:
    image = design.one_core(probe.program, probes.WORDS_IN, probe.words, 1, probe.tile, probe.memory, probe.helpers)
    device = Device(image.columns, strict=True, engine="interpreter")
    device.load_pdi(image.pdi)
    buffers = [bytearray(random_words(probes.WORDS_IN, 1)), bytearray(4 * probe.words)]
    assert device.run(image.operations, buffers).warnings == ()


def test_a_doubtful_program_that_does_not_end_settles_its_assumption_and_the_ladder_goes_on() -> None:
    """The run hangs that copies two bundles after a broadcast, as the array may do whatever nobody knows."""
    hung = next(number for number, probe in enumerate(probes.DOUBTFUL) if not probe.sure)
    device = SoftwareDevice()
    with system_calls.replaced(device):
        machine = DriverMachine(system_calls.present())
        machine.open()
        load = machine.load
        loads = iter(range(100))

        def counted(columns: int, pdi: bytes) -> Loaded:
            if next(loads) == hung:
                device.faults.end(commands.TIMEOUT)
            return load(columns, pdi)

        machine.load = counted  # type: ignore[method-assign]
        found = rungs_probes.doubtful(machine, QUICK)
        machine.close()
    settled = [one for one in found.settled if not one["holds"]]
    assert [one["assumption"] for one in settled] == [probes.DOUBTFUL[hung].settles] and "TIMEOUT" in settled[0][
        "failed"
    ]


def test_sequences_of_designs_are_what_is_sent() -> None:
    image = design.relay(2, 256, 64, offset=64)
    assert txn.read_txn(txn.write_txn(image.operations, 2)).operations == image.operations


def test_without_an_npu_the_command_says_so_with_what_is_missing(npuc: Npuc, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(system_calls.LinuxCalls, "nodes", lambda self: [])
    monkeypatch.setitem(sys.modules, "pyxrt", None)
    code, out, _ = npuc("doctor", "--run")
    assert code == 4 and "no NPU to climb on" in out and "missing device" in out
    code, out, _ = npuc("doctor", "--run", "--json")
    assert code == 4 and json.loads(out)["npu_usable"] is False


def _shortened(monkeypatch: pytest.MonkeyPatch, rungs: int) -> None:
    monkeypatch.setattr(
        "npuc.runtime.proof.ladder.climb", lambda machine, settings: climb(machine, settings, LADDER[:rungs])
    )


def test_the_command_climbs_on_the_emulator_only_when_asked_and_says_so(
    npuc: Npuc, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    _shortened(monkeypatch, 5)
    code, out, _ = npuc("doctor", "--run", "--backend", "emulator", "-o", tmp_path / "r.json")
    assert code == 0 and "emulated: this says nothing of an NPU" in out
    told = json.loads((tmp_path / "r.json").read_text())
    assert told["emulated"] is True and told["way"] == "emulator" and told["diagnosis"]["findings"]


def test_the_command_stops_at_a_rung_and_exits_by_its_kind(npuc: Npuc, monkeypatch: pytest.MonkeyPatch) -> None:
    _shortened(monkeypatch, 5)
    with system_calls.replaced(broken.wrong_ddr_offset()):
        code, out, _ = npuc("doctor", "--run")
    assert code == 1 and "FAILED  copy by DMA" in out and "wrong offset" in out
    with system_calls.replaced(broken.aborts()):
        code, out, _ = npuc("doctor", "--run", "--json")
    assert code == 4 and json.loads(out)["failed"]["rung"] == "no-op sequence"


def test_a_climb_that_is_interrupted_leaves_a_report_of_what_it_climbed(
    npuc: Npuc, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def interrupted(machine: Machine, settings: Settings) -> Iterator[Climbed]:
        yield from climb(machine, settings, LADDER[:3])
        raise KeyboardInterrupt

    monkeypatch.setattr("npuc.runtime.proof.ladder.climb", interrupted)
    device = SoftwareDevice()
    with system_calls.replaced(device):
        assert npuc("doctor", "--run", "-o", tmp_path / "r.json")[0] == 130
    told = json.loads((tmp_path / "r.json").read_text())
    assert (told["passed"], told["failed"]) == (False, None) and len(told["rungs"]) == 3
    assert told["not_tried"] == NAMES[3:] and device.taken == Taken()


@pytest.mark.parametrize("path", ["missing/r.json", "."])
def test_a_report_that_could_not_be_written_is_told_before_the_climb(path: str, npuc: Npuc, tmp_path: Path) -> None:
    code, out, err = npuc("doctor", "--run", "--backend", "emulator", "-o", tmp_path / path)
    assert code == 3 and "cannot write" in err and "copy by DMA" not in out


@pytest.mark.parametrize(
    "words", [["--backend", "emulator"], ["--repetitions", "3"], ["--run", "--root", "x"], ["--run", "--capture", "x"]]
)
def test_options_that_do_not_belong_together_are_wrong_usage(words: list[str], npuc: Npuc) -> None:
    assert npuc("doctor", *words)[0] == 2


def test_the_emulator_alone_is_a_machine_too() -> None:
    machine: Machine = EmulatedMachine()
    assert [one.passed for one in climb(machine, QUICK, LADDER[:4])] == [True] * 4
