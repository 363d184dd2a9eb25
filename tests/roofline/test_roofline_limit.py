"""The speed limit set by memory bandwidth, and what reports say about it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pytest_llmperf.engine.info import EngineInfo
from pytest_llmperf.engine.load_report import DeviceLoad, GpuStatus, GpuUtilization
from pytest_llmperf.engine.model_reads import CacheReads, ModelReads
from pytest_llmperf.machine.gpu.bandwidth import GpuBandwidth
from pytest_llmperf.measure.roofline import Bandwidth, Limit, decode_reads, reading_devices
from pytest_llmperf.session.roofline import (
    RooflineShare,
    UnknownLimit,
    bandwidth_of_gpu,
    roofline_json,
    roofline_lines,
)

GIGA = 1e9
MODEL = ModelReads({"CPU": 100}, (CacheReads("CPU", 1000, 100),), 100)


def test_a_step_looks_at_the_prompt_and_at_what_came_out_so_far() -> None:
    found = decode_reads(MODEL, [(10, 4)])
    assert found is not None
    # Three steps: 11, 12 and 13 positions of 10 bytes.
    assert (found.steps, found.depth, found.total) == (3, 12, 100 + 120)


def test_steps_of_all_requests_are_pooled() -> None:
    found = decode_reads(MODEL, [(10, 2), (40, 4), (5, 1)])
    assert found is not None
    assert (found.steps, found.depth) == (4, (11 + 41 + 42 + 43) / 4)


def test_a_cache_is_read_no_further_than_it_reaches() -> None:
    reads = ModelReads({}, (CacheReads("CPU", 1000, 100, window=20),))
    found = decode_reads(reads, [(18, 5)])
    assert found is not None
    assert found.total == 10 * (19 + 20 + 20 + 20) / 4


def test_one_output_token_takes_no_step() -> None:
    assert decode_reads(MODEL, [(10, 1)]) is None


def test_devices_take_their_turns() -> None:
    reads = decode_reads(ModelReads({"CPU": 2 * 10**9, "CUDA0": 8 * 10**9}), [(1, 2)])
    assert reads is not None
    limit = Limit(
        reads, {"CPU": Bandwidth(20 * GIGA, "measured"), "CUDA0": Bandwidth(800 * GIGA, "NVML")}
    )
    assert limit.seconds == pytest.approx(0.1 + 0.01)
    assert limit.tokens_per_sec == pytest.approx(9.0909, rel=1e-4)
    assert limit.share(4.5) == pytest.approx(0.495)


def test_a_row_of_the_embedding_on_the_host_takes_no_part() -> None:
    assert reading_devices({"CPU": 612.0, "CUDA0": 96e6}) == ["CUDA0"]
    assert reading_devices({"CPU": 6e5, "CUDA0": 96e6}) == ["CPU", "CUDA0"]


def info_of(device: str, description: str) -> EngineInfo:
    gpu = GpuUtilization(GpuStatus.FULL, 31, 31, -1, (DeviceLoad(device, description, 31),))
    return EngineInfo("llama_cpp", "1", "model", gpu=gpu)


CARDS = (
    GpuBandwidth("NVIDIA GeForce RTX 4070", 504 * GIGA, "192 bit x 10501 MHz x 2"),
    GpuBandwidth("NVIDIA GeForce RTX 4070 Ti SUPER", 672 * GIGA, "256 bit x 10501 MHz x 2"),
    GpuBandwidth("NVIDIA GB10", None, "the NVIDIA GB10 does not report"),
)


@pytest.mark.parametrize(
    ("name", "gigabytes"),
    [("NVIDIA GeForce RTX 4070", 504), ("NVIDIA GeForce RTX 4070 Ti SUPER", 672)],
)
def test_an_engines_device_is_found_by_its_name(name: str, gigabytes: int) -> None:
    found = bandwidth_of_gpu("CUDA0", info_of("CUDA0", name), CARDS)
    assert isinstance(found, Bandwidth)
    assert found.bytes_per_s == gigabytes * GIGA
    assert found.how.endswith("MHz x 2, NVML")


def test_a_device_of_another_vendor_has_no_known_bandwidth() -> None:
    name = "AMD Radeon RX 7900 XTX (RADV NAVI31)"
    assert bandwidth_of_gpu("Vulkan0", info_of("Vulkan0", name), CARDS) == UnknownLimit(
        f"the bandwidth of Vulkan0 ({name}) is not known: NVML does not list that device"
    )


def test_a_card_that_does_not_tell_leaves_it_unknown() -> None:
    found = bandwidth_of_gpu("CUDA0", info_of("CUDA0", "NVIDIA GB10"), CARDS)
    assert found == UnknownLimit("the NVIDIA GB10 does not report")


def a_limit(**changes: object) -> Limit:
    reads = decode_reads(ModelReads({"CPU": 90_000_000}), [(10, 3)])
    assert reads is not None
    bandwidth = Bandwidth(18 * GIGA, "measured, a stream on 2 threads", 0.02)
    return Limit(reads, {"CPU": replace(bandwidth, **changes)}, 90_000_000)  # type: ignore[arg-type]


def test_a_report_says_what_the_limit_rests_on() -> None:
    assert list(roofline_lines(RooflineShare(a_limit(), 0.471))) == [
        "roofline: 47.1% of this machine's limit of 200 tok/s: 90 MB per token (weights 90 MB, "
        "KV cache 0 MB at depth 12); on CPU at 18 GB/s (measured, a stream on 2 threads, "
        "spread 2.0%)"
    ]


@pytest.mark.parametrize(
    ("bandwidth", "shown"),
    [(4814.304 * GIGA, "4814 GB/s"), (999.7 * GIGA, "1000 GB/s"), (23.21 * GIGA, "23.2 GB/s")],
)
def test_bandwidths_of_any_size_are_read_at_a_glance(bandwidth: float, shown: str) -> None:
    (line,) = roofline_lines(RooflineShare(a_limit(bytes_per_s=bandwidth), 0.1))
    assert f"on CPU at {shown} (" in line


def test_more_than_the_limit_is_explained_by_the_cache_where_the_reads_fit_into_it() -> None:
    line = list(roofline_lines(RooflineShare(a_limit(cache_bytes=300 << 20), 1.2)))[1]
    assert line.startswith("over 100%: what a token reads fits into the last-level cache (300 MiB)")
    line = list(roofline_lines(RooflineShare(a_limit(cache_bytes=32 << 20), 1.2)))[1]
    assert line.startswith("over 100%: decoding only reads")


def test_an_unknown_limit_says_why() -> None:
    view = RooflineShare(None, problem="the app engine does not say")
    assert list(roofline_lines(view)) == ["roofline unknown: the app engine does not say"]
    assert roofline_json(view) == {"share": None, "problem": "the app engine does not say"}


def test_the_json_report_has_bytes_and_bandwidth_of_each_device() -> None:
    found = roofline_json(RooflineShare(a_limit(), 0.471))
    assert found is not None
    assert (found["share"], found["problem"], found["bytes_per_token"]) == (0.471, None, 90e6)
    assert found["limit_tokens_per_sec"] == pytest.approx(200)
    assert found["devices"] == {
        "CPU": {
            "weight_bytes": 90e6,
            "cache_bytes": 0.0,
            "bandwidth": 18 * GIGA,
            "how": "measured, a stream on 2 threads",
            "spread": 0.02,
        }
    }
