"""CPUs that are slow at bfloat16 serve in float32, where the memory is there and nobody chose another type."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tandem.models.vllm.command import Serve, command
from tandem.models.vllm.machine import GIB, Card, Machine, computes_bfloat16
from tandem.models.vllm.placement import Place
from tandem.models.vllm.size import suited

SLOW = Machine(cores=(0, 1), ram=20 * GIB, bfloat16=False)
SERVE = Serve("some/model", "m")


@pytest.mark.parametrize(
    ("cpuinfo", "native"),
    [
        ("model name\t: A\nflags\t\t: fpu avx2 avx512f avx512_bf16 fma\n", True),
        ("flags\t\t: fpu avx2 amx_bf16 amx_tile\n", True),
        ("Features\t: fp asimd bf16 i8mm\n", True),
        ("flags\t\t: fpu avx2 fma f16c\nflags\t\t: fpu avx2\n", False),
        ("flags\t\t: avx512f avx512_vnni xbf16\n", False),
        ("Features\t: fp asimd\n", False),
        ("", True),
        ("processor : 0\n", True),
    ],
)
def test_a_cpu_says_by_its_flags_whether_it_computes_bfloat16(cpuinfo: str, native: bool) -> None:
    assert computes_bfloat16(cpuinfo) is native


def test_float32_where_the_cpu_is_slow_at_bfloat16() -> None:
    both = suited([(SERVE, 1.5e9, 1), (SERVE, 0.5e9, 1)], SLOW)
    assert [serve.dtype for serve in both] == ["float32", "float32"]
    assert "float32" in command(both[0], Place(0, cores=(0,)), 8000)


@pytest.mark.parametrize(
    ("serve", "machine", "copies"),
    [
        (SERVE, replace(SLOW, bfloat16=True), 1),
        (SERVE, replace(SLOW, cards=(Card(0, 80 * GIB, 79 * GIB),)), 1),
        (replace(SERVE, dtype="bfloat16"), SLOW, 1),
        (replace(SERVE, quantization="awq"), SLOW, 1),
        (SERVE, replace(SLOW, ram=10 * GIB), 1),
        (SERVE, SLOW, 2),
    ],
    ids=["native", "gpu", "chosen", "quantised", "little memory", "two replicas"],
)
def test_nothing_else_is_changed(serve: Serve, machine: Machine, copies: int) -> None:
    assert suited([(serve, 1.5e9, copies)], machine) == [serve]


def test_a_pair_that_does_not_fit_stays_as_it_was() -> None:
    assert [serve.dtype for serve in suited([(SERVE, 1.5e9, 1), (SERVE, 1.5e9, 1)], SLOW)] == ["auto", "auto"]


def test_the_weights_that_lie_here_are_what_counts(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"dtype": "bfloat16"}')
    with (tmp_path / "model.safetensors").open("wb") as file:
        file.truncate(3 * GIB)  # in bfloat16, so 6 in float32, and 2 for the cache
    serve = Serve(str(tmp_path), "m")
    assert suited([(serve, None, 1)], replace(SLOW, ram=12 * GIB))[0].dtype == "float32"
    assert suited([(serve, None, 1)], replace(SLOW, ram=11 * GIB))[0].dtype == "auto"
