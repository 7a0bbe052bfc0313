"""npuc doctor on captured machines: each situation has its finding and the remedy that fits, and only that."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import doctor_situations as situations
import pytest
from doctor_situations import HEALTHY, INDEX, Situation, merged, write
from reported_situations import HARMLESS, REPORTED

from npuc.compiler.diagnostics import InputError
from npuc.runtime.devices import system_calls
from npuc.runtime.devices.software import SoftwareDevice, Taken
from npuc.runtime.doctor import opening
from npuc.runtime.doctor.capture import redacted, write_tree
from npuc.runtime.doctor.captured import tree
from npuc.runtime.doctor.diagnose import Diagnosis, diagnose
from npuc.runtime.doctor.findings import Finding
from npuc.runtime.doctor.kernel_log import lines
from npuc.runtime.doctor.pyxrt_probe import MARK, parsed
from npuc.runtime.doctor.recording import Recording
from npuc.runtime.doctor.system import LiveSystem, User

SITUATIONS = (*situations.SITUATIONS, *REPORTED)
Npuc = Callable[..., tuple[int, str, str]]


def of(folder: Path) -> Diagnosis:
    return diagnose(Recording(tree(str(folder))))


def fits(finding: Finding, situation: Situation) -> bool:
    name, words, remedy = situation.finding
    told = f"{finding.finding} {' '.join(finding.evidence)}"
    return not finding.ok and finding.name == name and words in told and remedy in (finding.remedy or "")


def test_there_are_thirty_situations_and_more() -> None:
    assert len({situation.name for situation in SITUATIONS}) == len(SITUATIONS) >= 30


def test_nothing_is_wrong_where_all_is_well(tmp_path: Path, npuc: Npuc) -> None:
    folder = write(tmp_path, HEALTHY, INDEX)
    found = of(folder)
    assert [finding for finding in found.findings if not finding.ok] == []
    assert found.ways == {"amdxdna": True, "xrt": True}
    code, out, _ = npuc("doctor", "--root", folder)
    assert code == 0 and "kernels run on the NPU (by amdxdna and xrt)" in out


@pytest.mark.parametrize("situation", SITUATIONS, ids=lambda situation: situation.name)
def test_the_situation_has_its_finding_and_remedy(situation: Situation, tmp_path: Path) -> None:
    found = of(write(tmp_path, *merged(situation)))
    assert any(fits(finding, situation) for finding in found.findings), found.findings
    assert found.usable == (not situation.blocks)
    assert all(finding.remedy for finding in found.findings if not finding.ok)


@pytest.mark.parametrize("situation", SITUATIONS, ids=lambda situation: situation.name)
def test_a_situation_names_no_cause_that_is_not_there(situation: Situation, tmp_path: Path) -> None:
    """Of the kernel log one cause is told, not its consequences; what is well stays well."""
    found = of(write(tmp_path, *merged(situation)))
    assert sum(1 for finding in found.findings if finding.name == "kernel log" and not finding.ok) <= 1
    untouched = {"memlock"} - {situation.finding[0]}
    assert all(finding.ok for finding in found.findings if finding.name in untouched)


def test_findings_of_random_combinations_are_those_of_each(tmp_path: Path, seed: int) -> None:
    """What concerns XRT or memory alone is told beside whatever else is wrong."""
    rng = random.Random(seed)
    apart = [
        one
        for one in SITUATIONS
        if one.finding[0] in ("xrt", "memlock")
        and set(one.index) <= {"pyxrt"}
        and one.name not in ("XRT without its plug-in", "XRT has no such index")  # by what the driver has
        if not any(path.startswith("/sys") for path in one.files)
    ]
    for number in range(25):
        one, other = rng.choice(SITUATIONS), rng.choice(apart)
        if set(one.files) & set(other.files) or one.finding[0] == other.finding[0]:
            continue
        index = {**other.index, **one.index} if other.finding[0] == "memlock" else {**one.index, **other.index}
        both = Situation("both", one.finding, {**other.files, **one.files}, index)
        found = of(write(tmp_path / str(number), *merged(both)))
        assert all(finding.remedy for finding in found.findings if not finding.ok)
        container = "/.dockerenv" in both.files
        for each in (other,) if container else (one, other):
            words = ("memlock", each.finding[1], "memlock") if container and each is other else each.finding
            expected = dataclasses.replace(each, finding=words) if each.finding[0] == "memlock" else each
            assert any(fits(finding, expected) for finding in found.findings), (one.name, other.name, each.name)
        assert not (found.usable and one.blocks), (one.name, other.name)


def test_random_changes_never_raise_and_always_leave_a_remedy(tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)
    for number in range(25):
        some = rng.sample(SITUATIONS, 3)
        files, index = dict(HEALTHY), dict(INDEX)
        for one in some:
            files |= dict(rng.sample(sorted(one.files.items()), rng.randint(0, len(one.files))))
            index |= dict(rng.sample(sorted(one.index.items()), rng.randint(0, len(one.index))))
        for path in rng.sample(sorted(files), rng.randint(0, 3)):
            files[path] = rng.choice(["", "\0\xff", "-1", None])
        found = of(write(tmp_path / str(number), files, index))
        assert all(finding.remedy for finding in found.findings if not finding.ok)
        assert found.usable == any(found.ways.values())


def test_a_container_that_hides_the_bus_and_hands_the_node_in_is_usable(tmp_path: Path) -> None:
    """A client got an npu1 with its heap: what files do not tell is a warning then."""
    node = {**INDEX["nodes"][situations.NODE], "answers": {"firmware": "1.5.2.380", "columns": 5, "rows": 6}}
    files = {path: text for path, text in HEALTHY.items() if not path.startswith("/sys")} | {"/.dockerenv": ""}
    index = {**INDEX, "nodes": {situations.NODE: node}, "pyxrt": situations.pyxrt("No module named 'pyxrt'")["pyxrt"]}
    found = of(write(tmp_path / "a", files, index))
    assert found.ways == {"amdxdna": True, "xrt": False}
    assert {one.name for one in found.findings if one.severity == "warning"} >= {"pci", "driver"}
    other = {**index, "nodes": {situations.NODE: {**node, "answers": {**node["answers"], "columns": 8}}}}
    assert not of(write(tmp_path / "b", files, other)).usable


def test_a_failure_before_the_driver_started_is_past(tmp_path: Path) -> None:
    past = f"[    1.0] {situations.drm('aie2_smu_exec', 'smu cmd 4 failed, 0xff')}\n{situations.STARTED}\n"
    index = {**INDEX, "commands": {**INDEX["commands"], "dmesg": past}}
    assert of(write(tmp_path, HEALTHY, index)).usable


def test_only_the_last_boot_of_a_log_counts_and_prefixes_go() -> None:
    old = "Mar 18 13:11:52 box kernel: amdxdna 0000:64:00.1: [drm] *ERROR* aie2_hw_start: firmware is not alive"
    new = "Mar 19 09:00:00 box kernel: Linux version 6.14.0\nMar 19 09:00:02 box kernel: [    2.1] amdxdna x\n"
    log = f"{old}\n{new}"
    assert lines(log) == ["amdxdna x"]
    assert lines(old) == ["amdxdna 0000:64:00.1: [drm] *ERROR* aie2_hw_start: firmware is not alive"]


def test_files_of_a_log_serve_where_no_command_was_run(tmp_path: Path) -> None:
    said = situations.drm("aie2_hw_start", "firmware is not alive")
    line = f"2024-02-16T10:00:26.05-08:00 host kernel: [  668.3] {said}"
    index = {**INDEX, "commands": {"uname": INDEX["commands"]["uname"]}}
    found = of(write(tmp_path, {**HEALTHY, "/var/log/kern.log": line}, index))
    (told,) = [finding for finding in found.findings if finding.name == "kernel log"]
    assert "come to life" in told.finding and "host" not in " ".join(told.evidence)


def test_a_tree_by_hand_needs_no_index(tmp_path: Path) -> None:
    """sys, proc, dev and what dmesg printed; an errno's name in the node says how opening failed."""
    write(tmp_path, {**HEALTHY, situations.NODE: "EACCES\n", "/commands/dmesg": situations.STARTED}, {})
    (tmp_path / "npuc-capture.json").unlink()
    found = of(tmp_path)
    assert not found.usable
    assert [finding.name for finding in found.findings if finding.blocks] == ["device", "xrt"]


def test_links_of_a_tree_lead_inside_of_it(tmp_path: Path) -> None:
    files: situations.Files = {**HEALTHY, f"{situations.NPU}/driver": None}
    folder = write(tmp_path, files, INDEX)
    real = folder / "sys/devices/npu"
    real.parent.mkdir(parents=True)
    here = folder / situations.NPU.lstrip("/")
    shutil.move(str(here), real)
    here.symlink_to("/sys/devices/npu")
    (real / "driver").symlink_to("../../bus/pci/drivers/amdxdna")
    (folder / "proc/cmdline").unlink()
    (folder / "proc/cmdline").symlink_to("../../../../../../../../../../etc/hostname")
    assert of(folder).usable
    assert tree(str(folder)).read("/proc/cmdline") is None, "it does not lead out"
    (folder / "etc/loop").symlink_to("loop")
    assert tree(str(folder)).read("/etc/loop") is None


QUIET = Situation("a log without a word of it", ("", "", ""), {}, {"commands": {"dmesg": "[    0.1] usb 1-1: new\n"}})


def test_what_recent_drivers_say_for_nothing_is_no_finding(tmp_path: Path) -> None:
    """Of debug buffers (facts/platform/amdxdna.md, section 5)."""
    said = situations.log(situations.drm("aie2_hwctx_cfg_debug_bo", "Get bo 5 failed"), started=True)
    found = of(write(tmp_path, HEALTHY, {**INDEX, "commands": {**INDEX["commands"], **said}}))
    assert [finding for finding in found.findings if not finding.ok] == []


def test_lines_that_say_nothing_of_a_failure_are_no_finding(tmp_path: Path) -> None:
    said = {"dmesg": "".join(f"[    3.{at:02d}] {line}\n" for at, line in enumerate(HARMLESS))}
    found = of(write(tmp_path, HEALTHY, {**INDEX, "commands": {**INDEX["commands"], **said}}))
    assert [finding for finding in found.findings if not finding.ok] == []


def test_of_a_long_log_the_newest_part_counts(tmp_path: Path) -> None:
    index = {**INDEX, "commands": {"uname": INDEX["commands"]["uname"]}}
    noise = "Mar 1 01:01:01 box kernel: usb 1-1: new high-speed USB device\n" * 100_000
    last = situations.drm("aie2_hw_start", "firmware is not alive")
    found = of(write(tmp_path, {**HEALTHY, "/var/log/kern.log": f"{noise}{last}\n"}, index))
    (told,) = [finding for finding in found.findings if finding.name == "kernel log"]
    assert "come to life" in told.finding


def test_texts_of_any_length_are_searched_in_no_time(tmp_path: Path) -> None:
    """Each of these took minutes where a pattern looked back over what it had seen."""
    for number, text in enumerate(("x" * 300_000, "amdxdna " * 40_000, "liblib" * 50_000, "serial" + " " * 300_000)):
        index = {**INDEX, "pyxrt": {**INDEX["pyxrt"], "imported": False, "error": f"cannot open shared object {text}"}}
        index["commands"] = {**INDEX["commands"], "dmesg": f"{situations.STARTED}\n[{'1' * 99_999} {text}\n"}
        source = Recording(tree(str(write(tmp_path / str(number), {**HEALTHY, "/proc/1/cgroup": text}, index))))
        began = time.process_time()
        diagnose(source)
        write_tree(source, str(tmp_path / f"{number}-b"))
        assert time.process_time() - began < 5


@pytest.mark.skipif(os.name != "posix", reason="POSIX's special files")
def test_odd_files_of_a_tree_are_as_good_as_none(tmp_path: Path) -> None:
    folder = write(tmp_path, HEALTHY, INDEX)
    for path in ("proc/cmdline", "etc/group", "proc/cpuinfo"):
        (folder / path).unlink()
    os.mkfifo(folder / "proc/cmdline")
    (folder / "etc/group").symlink_to("group")
    (folder / "proc/cpuinfo").mkdir()
    (folder / "sys/bus/pci/devices/loop").symlink_to("..")
    (folder / "etc/modprobe.d").symlink_to("/etc/modprobe.d/modprobe.d")
    assert of(folder).usable


def test_page_faults_of_other_devices_are_not_the_npus(tmp_path: Path) -> None:
    fault = "AMD-Vi: Event logged [IO_PAGE_FAULT device={} domain=0x0010 address=0x1000 flags=0x0020]"
    for number, (device, ok) in enumerate((("03:00.0", True), (situations.BDF, False))):
        said = situations.log(fault.format(device), started=True)
        found = of(write(tmp_path / str(number), HEALTHY, {**INDEX, "commands": {**INDEX["commands"], **said}}))
        (told,) = [finding for finding in found.findings if finding.name == "kernel log"]
        assert told.ok == ok and found.usable


@pytest.mark.parametrize("situation", [Situation("well", ("", "", "")), QUIET, *SITUATIONS], ids=lambda one: one.name)
def test_a_capture_answers_as_the_machine_did(situation: Situation, tmp_path: Path) -> None:
    source = Recording(tree(str(write(tmp_path / "a", *merged(situation)))))
    found = diagnose(source)
    write_tree(source, str(tmp_path / "b"))
    assert of(tmp_path / "b") == found


SECRET = {
    "/proc/cmdline": "root=UUID=6f1a2b3c-1111-2222-3333-444455556666 iommu=pt user=alice\n",
    "/etc/group": "root:x:0:alice\nrender:x:992:alice,bob\nalice:x:1000:\n",
    "/proc/self/status": "Name:\tpython\nGroups:\t1000 992\nCapEff:\t0000000000000000\n",
}


def test_a_capture_holds_no_secrets(tmp_path: Path) -> None:
    log = (
        "[    1.0] Command line: root=UUID=6f1a2b3c-1111-2222-3333-444455556666\n[    1.1] eth0: 02:42:ac:11:00:02 up\n"
        f"Mar 1 01:01:01 alicebox kernel: [    2.0] amdxdna {situations.BDF}: /home/alice/amdxdna.ko, "
        "serial: PF4XYZ12\n"
    )
    index = {**INDEX, "commands": {**INDEX["commands"], "dmesg": log}}
    index["pyxrt"] = {**INDEX["pyxrt"], "file": "/home/alice/xrt/pyxrt.so"}
    source = Recording(tree(str(write(tmp_path / "a", {**HEALTHY, **SECRET}, index))))
    diagnose(source)
    write_tree(source, str(tmp_path / "b"))
    written = "\n".join(path.read_text() for path in (tmp_path / "b").rglob("*") if path.is_file())
    for secret in ("alice", "bob", "6f1a2b3c", "02:42:ac", "PF4XYZ12", "alicebox"):
        assert secret not in written
    assert "iommu=pt" in written and "/home/USER/xrt" in written


def test_names_and_addresses_are_taken_out() -> None:
    assert redacted("pine at 192.168.1.7, a@b.org; pineapple", ["pine"]) == "NAME at ADDRESS, MAIL; pineapple"
    assert redacted("firmware 1.5.2.380 of 10:00.1 version 2.18.0") == "firmware 1.5.2.380 of 10:00.1 version 2.18.0"


def test_a_capture_never_goes_into_a_folder_with_something_in_it(tmp_path: Path, npuc: Npuc) -> None:
    folder = write(tmp_path / "a", HEALTHY, INDEX)
    code, _, err = npuc("doctor", "--root", folder, "--capture", folder)
    assert code == 3 and "new or empty" in err
    assert npuc("doctor", "--root", folder, "--capture", tmp_path / "b")[0] == 0
    assert npuc("doctor", "--root", tmp_path / "b", "-o", tmp_path / "r.json", "--json")[0] == 0
    assert json.loads((tmp_path / "r.json").read_text())["npu_usable"] is True


@pytest.mark.parametrize(
    "index", ["{", "[]", '{"format": 2}', '{"commands": {"rm": "x"}}', '{"commands": {"dmesg": 1}}', '{"nodes": 3}',
              '{"nodes": {"/dev/accel/accel0": 7}}', '{"user": {"gids": ["x"]}}', '{"pyxrt": []}'.replace("[]", "[1]")]
)  # fmt: skip
def test_a_damaged_capture_is_an_input_error(index: str, tmp_path: Path) -> None:
    write(tmp_path, HEALTHY, INDEX)
    (tmp_path / "npuc-capture.json").write_text(index)
    with pytest.raises(InputError):
        of(tmp_path)


ODD = (None, 0, -1, 1.5, True, "", [], {}, [1], ["x"], {"a": 1}, "\0\x1b[31m", 10**40, [[]], {"text": None}, "\u00b2")


def changed(value: Any, rng: random.Random, inside: bool = False) -> Any:
    """A JSON value with odd ones in some places."""
    if inside and rng.random() < 0.06:
        return rng.choice(ODD)
    if isinstance(value, dict):
        return {name: changed(one, rng, True) for name, one in value.items()}
    return [changed(one, rng, True) for one in value] if isinstance(value, list) else value


def test_an_index_with_anything_in_it_is_read_or_refused(tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)
    for number in range(40):
        files, index = merged(rng.choice(SITUATIONS))
        files["/proc/self/limits"] = rng.choice([files.get("/proc/self/limits"), "Max locked memory \u00b2 \u0663"])
        folder = write(tmp_path / str(number), files, changed(index, rng))
        with contextlib.suppress(InputError):
            source = Recording(tree(str(folder)))
            json.dumps(diagnose(source).as_json())
            write_tree(source, str(tmp_path / f"{number}-b"))
            tree(str(tmp_path / f"{number}-b"))


def test_what_is_no_capture_is_refused(tmp_path: Path, npuc: Npuc) -> None:
    assert npuc("doctor", "--root", tmp_path)[0] == 3
    assert npuc("doctor", "--root", tmp_path / "missing")[0] == 3


def test_this_machine_answers_and_exits_by_whether_an_npu_would_run(npuc: Npuc) -> None:
    code, out, _ = npuc("doctor", "--json")
    report = json.loads(out)
    assert code == (0 if report["npu_usable"] else 4)
    assert {"system", "pci", "driver", "device", "kernel log"} <= {f["name"] for f in report["findings"]}
    assert all(f["ok"] or f["remedy"] for f in report["findings"])


class WithPyxrt(LiveSystem):
    """This machine with the stand-in of the shared cases in the place of pyxrt."""

    def __init__(self, folder: Path, fake: str) -> None:
        self._folder, self._fake = folder, fake

    def pyxrt(self) -> dict[str, object]:
        import npuc.runtime.doctor.pyxrt_probe as probe

        environment = {**os.environ, "FAKE": self._fake, "PYTHONPATH": str(self._folder)}
        done = subprocess.run([sys.executable, probe.__file__], capture_output=True, text=True, env=environment)
        return parsed(done.returncode, done.stdout)

    def files(self, pattern: str) -> list[str]:
        return []

    def read(self, path: str) -> str | None:
        return None

    def user(self) -> User:
        return User(None, None, None)


@pytest.mark.parametrize(
    ("fake", "remedy"),
    [("memlock", "memlock"), ("memlock2", "limits.d"), ("enodev", "IOMMU"), ("none", "kernel log"), ("strix", "npu1"),
     ("import", "setup.sh"), ("symbol", "3.12"), ("index", "release"), ("notsup", "newer than the driver"), ("ok", ""),
     ("hawk", "")],
)  # fmt: skip
def test_what_xrt_says_is_understood(fake: str, remedy: str, facts_dir: Path) -> None:
    folder = facts_dir.parent / "cases" / "doctor"
    if not folder.is_dir():
        pytest.skip("shared cases not present")
    found = diagnose(Recording(WithPyxrt(folder, fake)))
    (told,) = [finding for finding in found.findings if finding.name == "xrt"]
    assert told.ok == (remedy == "") and remedy in (told.remedy or "")
    assert found.ways["xrt"] == told.ok


def test_a_node_is_tried_as_a_client_would_use_it(tmp_path: Path) -> None:
    """On the software device: well, without memory to lock, and of another generation's width."""
    for device, words in (
        (SoftwareDevice(), None),
        (SoftwareDevice(locked_limit=8 << 20), "mmap"),
        (SoftwareDevice(columns=8), "8 columns"),
    ):
        with system_calls.replaced(device):
            told, remedy = opening.refused(device.node)
        assert device.taken == Taken()
        if words is None:
            assert told is None
            continue
        assert told is not None and words in told and remedy
        index = {**INDEX, "nodes": {situations.NODE: {"driver": "amdxdna", "refused": told, "remedy": remedy}}}
        found = of(write(tmp_path / words.replace(" ", ""), HEALTHY, index))
        (blocked,) = [finding for finding in found.findings if not finding.ok]
        assert blocked.name == "device" and words in blocked.finding and blocked.remedy == remedy


def test_a_probe_that_dies_is_a_finding() -> None:
    assert parsed(-6, "terminate called\n") == {"imported": False, "devices": [], "ended": "ends by signal 6"}
    assert parsed(124, "no end")["ended"] == "hangs"
    assert parsed(0, f'noise\n{MARK}{{"imported": true}}\n') == {"imported": True}


def test_findings_know_their_severity() -> None:
    made = Finding("x", False, "y", "z", blocks=("xrt",))
    assert made.severity == "blocking" and dataclasses.replace(made, blocks=()).severity == "warning"
