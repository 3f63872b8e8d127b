"""The tensors of a GGUF file as bfloat16 safetensors, a few rows at a time: the peak of memory is about one shard.

Covers the architectures of the catalog's GGUF files, llama and qwen2; no mixtures of experts.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tandem.errors import TandemError

if TYPE_CHECKING:
    import torch

ARCHITECTURES = {"llama": "LlamaForCausalLM", "qwen2": "Qwen2ForCausalLM"}
_TOP = {"token_embd": "model.embed_tokens", "output_norm": "model.norm", "output": "lm_head"}
_LAYER = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
_SHARD = 1 << 30  # bytes
_ROWS = 4096


def write_tensors(reader: Any, folder: Path, *, tied: bool) -> None:
    """Write the tensors of `reader` (gguf.GGUFReader) to `folder` as ``model*.safetensors`` with their index.

    `tied`: one matrix serves as input and output embedding; where the file has both, it is the output's, which is
    quantised less. Raises TandemError for another architecture or an unknown tensor.
    """
    from safetensors.torch import save_file

    architecture = reader.get_field("general.architecture").contents()
    if architecture not in ARCHITECTURES:
        raise TandemError(f"a GGUF file of architecture '{architecture}' cannot be turned into a model folder")
    tensors = {_name(t.name): t for t in reader.tensors if t.name != "rope_freqs.weight"}
    if tied and (output := tensors.pop("lm_head.weight", None)):
        tensors["model.embed_tokens.weight"] = output
    shards: list[list[str]] = [[]]
    size = 0
    for name, tensor in tensors.items():
        size += 2 * int(tensor.n_elements)
        if shards[-1] and size > _SHARD:
            shards.append([])
            size = 2 * int(tensor.n_elements)
        shards[-1].append(name)
    heads = {}
    if architecture == "llama":
        queries = reader.get_field("llama.attention.head_count").contents()
        heads = {"q_proj": queries, "k_proj": reader.get_field("llama.attention.head_count_kv").contents()}
    for number, names in enumerate(shards, start=1):
        shard = {name: _unrotate(_bfloat16(tensors[name]), heads.get(name.split(".")[-2])) for name in names}
        save_file(shard, folder / _file(number, len(shards)), metadata={"format": "pt"})
    if len(shards) > 1:
        where = {name: _file(number, len(shards)) for number, names in enumerate(shards, 1) for name in names}
        total = sum(2 * int(tensor.n_elements) for tensor in tensors.values())
        index = {"metadata": {"total_size": total}, "weight_map": where}
        (folder / "model.safetensors.index.json").write_text(json.dumps(index, indent=2) + "\n")


def _file(number: int, shards: int) -> str:
    return "model.safetensors" if shards == 1 else f"model-{number:05d}-of-{shards:05d}.safetensors"


def _name(name: str) -> str:
    if found := re.fullmatch(r"blk\.(\d+)\.(\w+)\.(weight|bias)", name):
        layer, part, kind = found.groups()
        if part in _LAYER:
            return f"model.layers.{layer}.{_LAYER[part]}.{kind}"
    stem, _, kind = name.partition(".")
    if stem in _TOP and kind == "weight":
        return f"{_TOP[stem]}.weight"
    raise TandemError(f"the GGUF file has a tensor '{name}', which no model of this architecture has")


def _bfloat16(tensor: Any) -> torch.Tensor:
    import torch
    from gguf import dequantize

    shape = [int(n) for n in reversed(tensor.shape)]
    out = torch.empty(shape, dtype=torch.bfloat16)
    for start in range(0, shape[0], _ROWS):
        rows = dequantize(tensor.data[start : start + _ROWS], tensor.tensor_type)
        out[start : start + _ROWS] = torch.tensor(rows)  # a copy: the file is mapped read-only
    return out


def _unrotate(weight: torch.Tensor, heads: int | None) -> torch.Tensor:
    """Undo llama.cpp's order of rows in query and key matrices (pairs of each head side by side, for its RoPE)."""
    if heads is None:
        return weight
    return weight.view(heads, -1, 2, *weight.shape[1:]).swapaxes(1, 2).reshape(weight.shape).contiguous()
