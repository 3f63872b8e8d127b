"""CPUs that are slow at bfloat16 serve in float32, where the memory is there and nobody chose another type."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from tandem.cli.pool import _job
from tandem.models.vllm.command import Serve, command, option_value
from tandem.models.vllm.machine import GIB, Gpu, Machine, computes_bfloat16
from tandem.models.vllm.node import on_cpu
from tandem.models.vllm.placement import Place
from tandem.models.vllm.served import Placement, ServedModel
from tandem.models.vllm.size import size_of, suited
from tandem.spec import ModelSpec

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
        (SERVE, replace(SLOW, gpus=(Gpu(0, 80 * GIB, 79 * GIB),)), 1),
        (replace(SERVE, dtype="bfloat16"), SLOW, 1),
        (replace(SERVE, extra=("--dtype=bfloat16",)), SLOW, 1),
        (replace(SERVE, extra=("--dtype", "auto")), SLOW, 1),
        (replace(SERVE, quantization="awq"), SLOW, 1),
        (replace(SERVE, extra=("-q", "awq")), SLOW, 1),
        (replace(SERVE, extra=("--cpu-offload-gb", "4")), SLOW, 1),
        (SERVE, replace(SLOW, ram=10 * GIB), 1),
        (SERVE, SLOW, 2),
    ],
    ids=[
        "native",
        "gpu",
        "chosen",
        "chosen in extra",
        "auto in extra",
        "quantised",
        "quantised in extra",
        "need unknown",
        "little memory",
        "two replicas",
    ],
)
def test_nothing_else_is_changed(serve: Serve, machine: Machine, copies: int) -> None:
    assert suited([(serve, 1.5e9, copies)], machine) == [serve]


def test_a_model_of_unknown_size_stays_as_it_was() -> None:
    assert suited([(SERVE, None, 1)], SLOW) == [SERVE]


def test_quantised_weights_stay_as_they_are_since_vllm_takes_no_float32_for_them(tmp_path: Path) -> None:
    with (tmp_path / "model.safetensors").open("wb") as file:
        file.truncate(GIB)
    (tmp_path / "config.json").write_text('{"dtype": "float16", "quantization_config": {"quant_method": "awq"}}')
    (tmp_path / "small.gguf").write_bytes(b"GGUF")
    for path in (tmp_path, tmp_path / "small.gguf"):
        assert suited([(Serve(str(path), "m"), None, 1)], SLOW)[0].dtype == "auto"


def test_the_type_that_the_user_gives_vllm_is_counted() -> None:
    sizes = [size_of(replace(SERVE, extra=extra), cpu=True, parameters=1e9) for extra in ((), ("--dtype=float32",))]
    assert [size.weights for size in sizes] == [2_000_000_000, 4_000_000_000]
    assert option_value(("--dtype", "half", "--x=1", "--dtype=float32"), "--dtype") == "float32"  # the last one wins
    assert option_value(("--x", "--dtypes=half"), "--dtype") is None


def small(folder: Path, **config: object) -> Serve:
    """A folder with 1 GiB in bfloat16 whose one context takes 3 GiB of keys and values, in float32 6."""
    shape = {"num_hidden_layers": 24, "num_attention_heads": 14, "num_key_value_heads": 2, "hidden_size": 896}
    given = shape | {"dtype": "bfloat16", "max_position_embeddings": 1 << 18} | config
    (folder / "config.json").write_text(json.dumps(given))
    with (folder / "model.safetensors").open("wb") as file:
        file.truncate(GIB)
    return Serve(str(folder), "m")


def test_a_node_of_a_cluster_decides_by_its_own_cpu_and_memory(tmp_path: Path) -> None:
    serve, roomy = small(tmp_path), replace(SLOW, ram=40 * GIB)  # it reckons with three replicas
    told = on_cpu(serve, roomy)
    assert (told.dtype, told.kv_cache_gib) == ("float32", 6)
    for other in (replace(roomy, bfloat16=True), replace(roomy, ram=30 * GIB)):
        told = on_cpu(serve, other)
        assert (told.dtype, told.kv_cache_gib) == ("auto", 3)


@pytest.mark.parametrize(("native", "dtype", "gib"), [(False, "float32", 6), (True, "auto", 3)])
def test_models_are_placed_and_pools_are_brought_up_by_what_the_cpu_can(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, native: bool, dtype: str, gib: int
) -> None:
    small(tmp_path)
    here = replace(SLOW, bfloat16=native)
    for module in ("tandem.models.vllm.machine", "tandem.models.vllm.served"):
        monkeypatch.setattr(f"{module}.find_machine", lambda: here)
    for module in ("tandem.models.vllm.command", "tandem.models.vllm.served"):
        monkeypatch.setattr(f"{module}.need_vllm", lambda *_: None)
    placement = Placement()
    ServedModel(ModelSpec(name="m"), tmp_path, placement=placement)
    serve, _ = placement._place()["intern"]
    assert (serve.dtype, serve.kv_cache_gib) == (dtype, gib)
    options = dict.fromkeys(("cores", "replicas", "gpus", "port", "name", "quantization", "context", "kv_cache_gib"))
    job = _job(str(tmp_path), options | {"dtype": "auto", "tensor_parallel": 1, "eager": False, "extra": ()})
    assert (job.serve.dtype, job.serve.kv_cache_gib) == (dtype, gib)


@pytest.mark.parametrize(("flags", "onednn", "dtype"), [("avx512f", True, "float32"), ("amx_bf16", True, "bfloat16")])
def test_in_process_too(monkeypatch: pytest.MonkeyPatch, flags: str, onednn: bool, dtype: str) -> None:
    import torch

    from tandem.models.transformers import load

    monkeypatch.setattr(load, "read_cpuinfo", lambda: f"flags\t\t: fpu {flags}\n")
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: True)
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: onednn, raising=False)
    assert load._dtype("auto", torch.device("cpu")) is getattr(torch, dtype)
    assert load._dtype("bfloat16", torch.device("cpu")) is torch.bfloat16


def test_a_pair_that_does_not_fit_stays_as_it_was() -> None:
    assert [serve.dtype for serve in suited([(SERVE, 1.5e9, 1), (SERVE, 1.5e9, 1)], SLOW)] == ["auto", "auto"]


def test_the_weights_that_lie_here_are_what_counts(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"dtype": "bfloat16"}')
    with (tmp_path / "model.safetensors").open("wb") as file:
        file.truncate(3 * GIB)  # in bfloat16, so 6 in float32, and 2 for the cache
    serve = Serve(str(tmp_path), "m")
    assert suited([(serve, None, 1)], replace(SLOW, ram=12 * GIB))[0].dtype == "float32"
    assert suited([(serve, None, 1)], replace(SLOW, ram=11 * GIB))[0].dtype == "auto"
