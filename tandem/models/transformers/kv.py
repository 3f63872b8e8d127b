"""Key-value (KV) tensors of a batch: stacked, grown in place and taken apart; and attention that never copies them."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

    KV = list[tuple[torch.Tensor, torch.Tensor]]  # one row: per layer keys and values, each (heads, tokens, size)

SPARE = 64  # tokens of room beyond what a batch holds when its tensors are copied


def kv_length(kv: KV | None) -> int:
    return kv[0][0].shape[-2] if kv else 0


def kv_row(cache: Any, index: int, start: int, end: int) -> KV:
    return [(x.keys[index, :, start:end].clone(), x.values[index, :, start:end].clone()) for x in cache.layers]


def stack(rows: Sequence[KV | None], width: int, spare: int, old: tuple[Any, list[int], int] | None = None) -> Any:
    """Return a new cache of `width` tokens, padded on the left, with room for `spare` more.

    `old` is (cache, rows of it to keep, its width); they come first, then `rows`. None stands for a row that has
    nothing yet; where there is nothing at all, the cache shapes itself on the first pass.
    """
    import torch
    from transformers.cache_utils import Cache

    cache: Any
    cache, keep, old_width = old or (None, [], 0)
    first = next((kv for kv in rows if kv), None)
    source = [(x.keys, x.values) for x in cache.layers] if keep else first
    if source is None:
        return Cache(layer_class_to_replicate=_layer_class())
    kept = min(old_width, width)
    layers = []
    for number, pair in enumerate(source):
        index = torch.tensor(keep, device=pair[0].device)
        rooms = []
        for side, sample in enumerate(pair):
            shape = (len(keep) + len(rows), sample.shape[-3], width + spare, sample.shape[-1])
            room = sample.new_zeros(shape)  # zeros: a masked NaN would still spread
            if keep:
                room[: len(keep), :, width - kept : width] = sample[:, :, old_width - kept :].index_select(0, index)
            for i, kv in enumerate(rows, len(keep)):
                if kv:
                    room[i, :, width - kv_length(kv) : width] = kv[number][side]
            rooms.append(room)
        layers.append(_layer_class()(*rooms, width))
    return Cache(layers=layers)


@functools.cache
def _layer_class() -> Any:
    """Return a cache layer that writes new tokens into spare room, where Transformers' own copies all of it."""
    from transformers.cache_utils import DynamicLayer

    class GrowingLayer(DynamicLayer):  # type: ignore[misc]
        """Keys and values (rows, heads, tokens, size) as views of larger tensors."""

        keys: Any
        values: Any
        _room: tuple[Any, Any]

        def __init__(self, keys: Any = None, values: Any = None, tokens: int = 0, **_: Any) -> None:
            super().__init__()
            if keys is not None:
                self._start(keys, values, tokens)

        def update(self, key_states: Any, value_states: Any, *_: Any, **__: Any) -> tuple[Any, Any]:
            if not self.is_initialized:
                self._start(key_states[:, :, :0], value_states[:, :, :0], 0)
            start = self.keys.shape[-2]
            end = start + key_states.shape[-2]
            if end > self._room[0].shape[-2]:
                self._room = (_widen(self.keys, end + SPARE), _widen(self.values, end + SPARE))
            self._room[0][:, :, start:end] = key_states
            self._room[1][:, :, start:end] = value_states
            self._view(end)
            return self.keys, self.values

        def _start(self, keys: Any, values: Any, tokens: int) -> None:
            self.dtype, self.device, self.is_initialized = keys.dtype, keys.device, True
            self._room = (keys, values)
            self._view(tokens)

        def _view(self, tokens: int) -> None:
            self.keys, self.values = (room[:, :, :tokens] for room in self._room)

    return GrowingLayer


def _widen(tensor: torch.Tensor, tokens: int) -> torch.Tensor:
    rows, heads, used, size = tensor.shape
    room = tensor.new_zeros(rows, heads, tokens, size)
    room[:, :, :used] = tensor
    return room


def use_grouped_attention(model: Any) -> None:
    """Let a model with grouped-query attention decode without repeating its keys and values for every query head.

    While decoding there is one query per head; the heads of a group are given to the kernel as if they were that many
    queries of one head. Transformers copies the KV tensors instead whenever there is a padding mask (with 16 rows of
    1,024 tokens, seven heads a group, that took most of the step).
    """
    from transformers import AttentionInterface, AttentionMaskInterface
    from transformers.integrations.sdpa_attention import sdpa_attention_forward
    from transformers.masking_utils import sdpa_mask

    def attention(module: Any, query: Any, key: Any, value: Any, attention_mask: Any, **options: Any) -> Any:
        import torch

        rows, heads, length, size = query.shape
        groups = key.shape[1]
        shared_mask = attention_mask is None or attention_mask.shape[1] == 1
        if length > 1 or heads == groups or not shared_mask or options.get("position_bias") is not None:
            return sdpa_attention_forward(module, query, key, value, attention_mask, **options)
        output = torch.nn.functional.scaled_dot_product_attention(
            query.reshape(rows, groups, heads // groups, size),
            key,
            value,
            attn_mask=attention_mask,
            scale=options.get("scaling"),
        )
        return output.reshape(rows, 1, heads, value.shape[-1]), None

    if model.config._attn_implementation == "sdpa":
        AttentionInterface.register("tandem", attention)
        AttentionMaskInterface.register("tandem", sdpa_mask)
        model.set_attn_implementation("tandem")
