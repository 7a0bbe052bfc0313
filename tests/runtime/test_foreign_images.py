"""Public image kernels with their sequences against numpy models: every pixel equal.

NPUC_FOREIGN names a folder with NAME.xclbin, NAME.seq and (but for denoise) NAME.json of color_detect, edge_detect,
color_threshold_v1, color_threshold_v2, denoise_task_parallel and denoise_data_parallel, each _720p and _1080p
(AMDResearch/Riallto, npu/lib/applications/binaries); without it the tests skip.  The models say
what the compiled programs compute; where these differ from the published sources, the comment names the instruction.
"""

from __future__ import annotations

import json
import os
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from npuc.compiler.emit import txn
from npuc.compiler.target.npu1 import geometry
from npuc.runtime.emulator.device import Device
from npuc.runtime.foreign import ForeignKernel, read_foreign

pytestmark = pytest.mark.slow

SIZES = {"720p": (720, 1280), "1080p": (1080, 1920)}
Parameters = dict[tuple[int, int], list[int]]  # tile -> words written to its memory, in order


def kernel_of(name: str) -> tuple[ForeignKernel, dict]:
    folder = Path(os.environ.get("NPUC_FOREIGN", "/nonexistent"))
    if not (folder / f"{name}.xclbin").is_file():
        pytest.skip(f"{name}.xclbin not present (NPUC_FOREIGN)")
    kernel = read_foreign((folder / f"{name}.xclbin").read_bytes(), (folder / f"{name}.seq").read_bytes())
    description = folder / f"{name}.json"
    return kernel, json.loads(description.read_bytes()) if description.is_file() else {}


@pytest.fixture(params=SIZES)
def size(request) -> str:
    return request.param


@pytest.fixture
def image(size, seed) -> np.ndarray:
    """Gradients, and noise in the middle."""
    height, width = SIZES[size]
    y, x = np.mgrid[0:height, 0:width]
    picture = np.stack([x * 255 // width, y * 255 // height, (x + y) % 256, np.full((height, width), 255)], -1)
    picture[200:400, 300:600, :3] = np.random.default_rng(seed).integers(0, 256, (200, 300, 3))
    return picture.astype(np.uint8)


def is_parameter(operation: txn.Operation) -> bool:
    return isinstance(operation, txn.Write) and geometry.split_address(operation.address)[1] in geometry.CORE_ROWS


def with_parameters(kernel: ForeignKernel, description: dict) -> ForeignKernel:
    """The description's values over the place holders (facts/platform/legacy_sequence.md section 6)."""
    values = {
        tuple(entry["tloc"]): [port.get("value") for port in entry["ports"].values()]
        for entry in description["kernels"].values()
        if "tloc" in entry
    }
    operations = []
    for operation in kernel.operations:
        if is_parameter(operation):
            column, row, _ = geometry.split_address(operation.address)
            operation = replace(operation, value=values[column, row][operation.value] & 0xFFFFFFFF)
        operations.append(operation)
    return replace(kernel, operations=tuple(operations))


def with_value(kernel: ForeignKernel, place: int, value: int) -> ForeignKernel:
    """Every tile's parameter number `place` replaced."""
    operations, seen = [], Counter[int]()
    for operation in kernel.operations:
        if is_parameter(operation):
            tile = operation.address >> geometry.ROW_SHIFT
            operation = replace(operation, value=value) if seen[tile] == place else operation
            seen[tile] += 1
        operations.append(operation)
    return replace(kernel, operations=tuple(operations))


def parameters(kernel: ForeignKernel) -> Parameters:
    found: Parameters = {}
    for operation in filter(is_parameter, kernel.operations):
        column, row, _ = geometry.split_address(operation.address)
        found.setdefault((column, row), []).append(int(np.int32(np.uint32(operation.value))))
    return found


def run(device: Device, kernel: ForeignKernel, image: np.ndarray, channels: int = 4) -> np.ndarray:
    buffers = [bytearray(image.tobytes()), bytearray(image.size // 4 * channels)]
    begin = time.process_time()
    statistics = device.run(kernel.operations, buffers)
    seconds = time.process_time() - begin
    print(f"{kernel.name}: {statistics.cycles:,} cycles (emulated), {seconds:.1f} s of processor time")
    assert statistics.warnings == ()
    return np.frombuffer(bytes(buffers[1]), np.uint8)


def boot(kernel: ForeignKernel) -> Device:
    device = Device(kernel.columns)
    device.load_pdi(kernel.pdi)
    return device


# --- models -------------------------------------------------------------------------------------------------------
def threshold(channel: np.ndarray, limit: int, kind: int) -> np.ndarray:
    """Kinds 0 and 1, 3 and 4 are exchanged against the sources.

    In the programs kind 0 ends in `vsel.8 x3, x4, x1, r27:r26` (0xb00 of the threshold programs) with the maximum in
    x4, which is taken where the bit of limit < channel is 0; kind 1 (0xbb0) has x1 and x4 the other way round; so have
    3 and 4.  The edge detector's threshold is called with kind 1 (`mova r3, #0x1` at 0x18e of core (0,4)), not 0.
    """
    over = channel > np.uint8(limit & 255)
    if kind in (0, 1):
        return np.where(over == (kind == 1), 255, 0).astype(np.uint8)
    if kind in (3, 4):
        return np.where(over == (kind == 4), channel, 0).astype(np.uint8)
    return np.minimum(channel, np.uint8(limit & 255))


def thresholds(image: np.ndarray, values: Sequence[int]) -> np.ndarray:
    """Four limits, one a channel, and a kind."""
    return np.stack([threshold(image[..., i], values[i], values[4]) for i in range(4)], -1)


def thresholds_by_quarter(image: np.ndarray, found: Parameters) -> np.ndarray:
    """Four cores, each a quarter of the lines."""
    quarters = np.split(image, 4)
    return np.concatenate([thresholds(q, found[0, row]) for q, row in zip(quarters, geometry.CORE_ROWS, strict=True)])


def gray(image: np.ndarray) -> np.ndarray:
    """0.299 R + 0.587 G + 0.114 B in 15 bits of fraction, rounded half up."""
    r, g, b = (image[..., i].astype(int) for i in range(3))
    return (9798 * r + 19235 * g + 3736 * b + (1 << 14)) >> 15


def filtered(lines: np.ndarray, weights: Sequence[int]) -> np.ndarray:
    """3x3 correlation with the weights' high bytes, borders repeated, four bits of fraction dropped.

    The left neighbour of column 64, 96, 128, ... is the one two to the left: the line before is kept with `vmov wh0,
    wl5` at 0x2fac of core (0,3), when x5 has been shifted by `vshift x5, x0, x5, r25` at 0x2f9c already; the published
    source does the same.
    """
    height, width = lines.shape
    kernel = np.array([weight >> 8 for weight in weights]).astype(np.int8).astype(int).reshape(3, 3)
    padded = np.pad(lines, 1, mode="edge")
    left, center, right = (padded[:, first : first + width].copy() for first in range(3))
    late = np.arange(64, width, 32)
    left[:, late] = padded[:, late - 1]
    total = sum(kernel[y, x] * side[y : y + height] for y in range(3) for x, side in enumerate((left, center, right)))
    return np.clip(total >> 4, 0, 255).astype(np.uint8)


def edges(image: np.ndarray, found: Parameters, weights: Sequence[int]) -> np.ndarray:
    """Gray, filter, threshold, and the weighted sum with the image, 14 bits of fraction."""
    lines = threshold(filtered(gray(image), weights), found[0, 4][0], 1)
    alpha, beta, gamma = found[0, 5]
    over = np.stack([lines, lines, lines, np.full_like(lines, 255)], -1).astype(int)
    return np.clip((alpha * over + beta * image.astype(int) + gamma) >> 14, 0, 255).astype(np.uint8)


def denoised(image: np.ndarray, values: Sequence[int]) -> np.ndarray:
    """Gray and its median of three along the lines, summed with weights, then a threshold.

    values: alpha, beta, gamma, limit, kind, maximum.
    """
    lines = gray(image)
    padded = np.pad(lines, ((0, 0), (1, 1)), mode="edge")
    median = np.sort(np.stack([padded[:, first : first + lines.shape[1]] for first in range(3)]), axis=0)[1]
    alpha, beta, gamma, limit, kind, maximum = values
    assert maximum == 255
    total = np.clip((alpha * lines + beta * median + gamma) >> 14, 0, 255)
    return threshold(total.astype(np.uint8), limit, kind)


def hue(image: np.ndarray) -> np.ndarray:
    """Half of the hue in 510 steps, rounded up: 85 * difference / range, the quotient of 85 * 512 by a table of 256
    entries, nine bits of fraction; the largest channel decides, green before red before blue."""
    r, g, b = (image[..., i].astype(int) for i in range(3))
    top = np.maximum(np.maximum(r, g), b)
    spread = top - np.minimum(np.minimum(r, g), b)
    inverse = 85 * 512 // np.maximum(spread, 1)

    def sector(start: int, above: np.ndarray, below: np.ndarray) -> np.ndarray:
        return ((start * 512 + (above - below) * inverse) >> 10) & 255

    found = np.where(top == r, sector(1, g, b), sector(341, r, g))
    found = np.where(top == g, sector(171, b, r), found)
    return np.where(spread == 0, 0, found).astype(np.uint8)


def detected(image: np.ndarray, found: Parameters) -> np.ndarray:
    """The pixels whose hue is in one of two ranges above the lower and up to the upper limit; the others black."""
    hues = hue(image)
    ranges = [threshold(threshold(hues, upper, 3), lower, 1) for upper, lower in (found[0, 3], found[0, 4])]
    inside = ranges[0] | ranges[1]
    return np.stack([inside, inside, inside, np.full_like(inside, 255)], -1) & image


# --- tests --------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("useful", [False, True], ids=["place holders", "parameters"])
@pytest.mark.parametrize("name", ["color_threshold_v1", "color_threshold_v2"])
def test_color_threshold_gives_the_image_of_the_model(name, useful, size, image):
    kernel, description = kernel_of(f"{name}_{size}")
    if useful:
        kernel = with_parameters(kernel, description)
    found = parameters(kernel)
    expected = thresholds(image, found[0, 2]) if "v1" in name else thresholds_by_quarter(image, found)
    assert np.array_equal(run(boot(kernel), kernel, image), expected.ravel())


@pytest.mark.parametrize("useful", [False, True], ids=["place holders", "parameters"])
def test_color_detect_gives_the_image_of_the_model(useful, size, image):
    kernel, description = kernel_of(f"color_detect_{size}")
    if useful:
        kernel = with_parameters(kernel, description)
    expected = detected(image, parameters(kernel))
    assert not useful or 0.1 < (expected[..., :3] > 0).any(-1).mean() < 0.9
    assert np.array_equal(run(boot(kernel), kernel, image), expected.ravel())


@pytest.mark.parametrize("useful", [False, True], ids=["place holders", "parameters"])
def test_edge_detect_gives_the_image_of_the_model(useful, size, image):
    """Core (0,3) loads its nine weights at 0x146..0x16c, before its first acquire: when the image is loaded and at the
    end of a run, not after the sequence has written them.  So a run filters with the weights of the one before it."""
    kernel, description = kernel_of(f"edge_detect_{size}")
    if useful:
        kernel = with_parameters(kernel, description)
    found = parameters(kernel)
    device = boot(kernel)
    for weights in ([0] * 9, found[0, 3]):
        assert np.array_equal(run(device, kernel, image), edges(image, found, weights).ravel())


def test_denoise_by_tasks_gives_the_image_of_the_model(size, image):
    kernel, _ = kernel_of(f"denoise_task_parallel_{size}")
    found = parameters(kernel)
    expected = denoised(image, found[0, 4] + found[0, 5])
    assert len(np.unique(expected)) == 2
    assert np.array_equal(run(boot(kernel), kernel, image, channels=1), expected.ravel())


@pytest.mark.parametrize("kind", [None, 4], ids=["as it is", "kind 4"])
def test_denoise_by_data_gives_the_image_of_the_model(kind, size, image):
    """As it is all pixels are 0: its kind 3 does what 4 should (see threshold)."""
    kernel, _ = kernel_of(f"denoise_data_parallel_{size}")
    kernel = kernel if kind is None else with_value(kernel, 4, kind)
    expected = denoised(image, parameters(kernel)[0, 2])
    assert len(np.unique(expected)) > 200 or kind is None
    assert np.array_equal(run(boot(kernel), kernel, image, channels=1), expected.ravel())
