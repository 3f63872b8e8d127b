"""What a model needs in memory, as far as its files say: weights, and the keys and values of one full context."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from tandem.models.vllm.command import CPU_CACHE_GIB, Serve, option_names, option_value
from tandem.models.vllm.machine import GIB, Machine
from tandem.models.vllm.placement import Size

_BYTES = {"float32": 4, "float": 4, "float16": 2, "half": 2, "bfloat16": 2}
_QUANTISED = {"fp8": 1.0, "bitsandbytes": 0.5, "awq": 0.5, "gptq": 0.5}  # bytes per weight, without the scales
# Options of vLLM that change the need in ways not counted here: then nothing is known.
_UNKNOWN = {"--kv-cache-dtype", "--cpu-offload-gb", "--load-format", "--hf-overrides", "--kv-cache-memory-bytes"}
_PACKED = 1.4  # what a float32 server takes over its weights and its cache: weights laid out anew for the CPU


def size_of(serve: Serve, *, cpu: bool, parameters: float | None = None) -> Size:
    """Return the least that `serve` needs; `parameters` is the model's size where no files are here.

    The cache holds one full context (2 x layers x KV heads x head size x bytes per token), without which vLLM does not
    start; for other attention than plain, and where nothing is known, 1 GiB. On the CPU it is what to set as
    `kv_cache_gib`, at least 2 GiB.
    """
    config, serve = _config(serve.path), _as_told(serve)
    known = not _UNKNOWN & set(option_names(serve.extra))
    if cpu and serve.kv_cache_gib is not None:
        cache = int(serve.kv_cache_gib * GIB)
    else:
        cache = max((CPU_CACHE_GIB if cpu else 1) * GIB, _one_context(config, serve) if known else 0)
    return Size(_weights(serve, config, parameters) if known else 0, cache)


def suited(wanted: Sequence[tuple[Serve, float | None, int]], machine: Machine) -> list[Serve]:
    """Return how models are best served on one machine: in float32 where a CPU is slow at bfloat16 and has the memory.

    `wanted` has each model with its parameters and its replicas. Only if no type was chosen, and the needs of all are
    known.
    """
    serves = [serve for serve, _, _ in wanted]
    if machine.gpus or machine.bfloat16:
        return serves
    wide = [replace(serve, dtype="float32") if _open(serve) else serve for serve in serves]
    sizes = [size_of(serve, cpu=True, parameters=p) for serve, (_, p, _) in zip(wide, wanted, strict=True)]
    need = sum(copies * size.need(1) for size, (_, _, copies) in zip(sizes, wanted, strict=True))
    fits = all(size.weights for size in sizes) and (machine.ram is None or _PACKED * need <= machine.ram)
    return wide if fits else serves


def _as_told(serve: Serve) -> Serve:
    """Return `serve` with the number type and the quantisation of its `extra`, which win."""
    dtype, quantization = (option_value(serve.extra, name) for name in ("--dtype", "--quantization"))
    quantization = quantization or option_value(serve.extra, "-q")
    return replace(serve, dtype=dtype or serve.dtype, quantization=quantization or serve.quantization)


def _open(serve: Serve) -> bool:
    """Whether the number type is left to us: none was chosen, no weights are quantised (vLLM takes no float32 then)."""
    path = serve.path
    quantised = _as_told(serve).quantization is not None or (path is not None and path.is_file())
    chosen = serve.dtype != "auto" or option_value(serve.extra, "--dtype") is not None
    return not chosen and not quantised and "quantization_config" not in _config(path)


def _config(path: Path | None) -> dict[str, Any]:
    """Return the configuration that lies with the weights, or nothing; vLLM has its own word on a broken one."""
    if path is None:
        return {}
    try:
        read = json.loads(((path if path.is_dir() else path.parent) / "config.json").read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    return read if isinstance(read, dict) else {}


def _weights(serve: Serve, config: dict[str, Any], parameters: float | None) -> int:
    path = serve.path
    each = next((size for name, size in _QUANTISED.items() if (serve.quantization or "").startswith(name)), None)
    if path is None:
        return int((parameters or 0) * (each or _BYTES.get(serve.dtype, 2)))
    if path.is_file():
        return path.stat().st_size
    files = list(path.glob("*.safetensors")) or list(path.glob("*.bin"))
    stored = sum(file.stat().st_size for file in files)
    kept = _BYTES.get(str(config.get("dtype") or config.get("torch_dtype")))
    if kept is None or "quantization_config" in config:
        return stored
    return int(stored * (each or _BYTES.get(serve.dtype, 2)) / kept)


def _one_context(config: dict[str, Any], serve: Serve) -> int:
    text = config.get("text_config", config)
    plain = not text.get("kv_lora_rank") and set(text.get("layer_types") or ()) <= {"full_attention"}
    if text.get("sliding_window") and text.get("use_sliding_window", True):
        plain = False
    try:
        heads = int(text["num_attention_heads"])
        width = int(text.get("head_dim") or text["hidden_size"] // heads) * int(
            text.get("num_key_value_heads") or heads
        )
        tokens = serve.context or int(text["max_position_embeddings"])
        return 2 * int(text["num_hidden_layers"]) * width * _BYTES.get(serve.dtype, 2) * tokens if plain else 0
    except (KeyError, TypeError, ValueError, ZeroDivisionError):
        return 0
