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
    assert suited(SERVE, SLOW, parameters=1.5e9).dtype == "float32"
    assert "float32" in command(suited(SERVE, SLOW, parameters=1.5e9), Place(0, cores=(0,)), 8000)


@pytest.mark.parametrize(
    ("serve", "machine", "room"),
    [
        (SERVE, replace(SLOW, bfloat16=True), 1.0),
        (SERVE, replace(SLOW, cards=(Card(0, 80 * GIB, 79 * GIB),)), 1.0),
        (replace(SERVE, dtype="bfloat16"), SLOW, 1.0),
        (replace(SERVE, quantization="awq"), SLOW, 1.0),
        (SERVE, replace(SLOW, ram=6 * GIB), 1.0),
        (SERVE, SLOW, 0.3),
    ],
    ids=["native", "gpu", "chosen", "quantised", "little memory", "little room"],
)
def test_nothing_else_is_changed(serve: Serve, machine: Machine, room: float) -> None:
    assert suited(serve, machine, parameters=1.5e9, room=room) == serve


def test_the_weights_that_lie_here_are_what_counts(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"dtype": "bfloat16"}')
    with (tmp_path / "model.safetensors").open("wb") as file:
        file.truncate(3 * GIB)  # in bfloat16, so 6 in float32, and 2 for the cache
    serve = Serve(str(tmp_path), "m")
    assert suited(serve, replace(SLOW, ram=9 * GIB)).dtype == "float32"
    assert suited(serve, replace(SLOW, ram=7 * GIB)).dtype == "auto"
