"""Log-probabilities of a given text from an in-process model, read portion by portion; nothing of it is kept."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from tandem.errors import UsageError
from tandem.ledger import Usage
from tandem.models.base import Reading
from tandem.models.logprobs import TokenStat, token_stat
from tandem.models.transformers.kv import kv_row, stack
from tandem.models.transformers.load import Loaded
from tandem.types import ScoredToken

if TYPE_CHECKING:
    import torch

    from tandem.models.transformers.kv import KV

_PORTION = 256  # tokens in one pass: their scores over the whole vocabulary are in memory at once
_POSITIONS = 64  # whose scores are in float32 at once


class PromptReader:
    """One text on its way through a model. `step` reads a portion, so that others have their turn in between."""

    def __init__(
        self,
        loaded: Loaded,
        text: str | Sequence[int],
        *,
        top_logprobs: int,
        max_tokens: int | None,
        alternatives: int | None,
    ) -> None:
        """Raises UsageError for a text longer than the context, or a token that the model does not have."""
        self._loaded, self._top, self._alternatives = loaded, top_logprobs, alternatives
        self._ids = checked_ids(loaded, text)[:max_tokens]
        limit = loaded.spec.context
        if limit is not None and len(self._ids) > limit:
            raise UsageError(f"{loaded.spec.name} reads {limit} tokens at most, the text has {len(self._ids)}")
        self._text = text if isinstance(text, str) and max_tokens is None else loaded.whole_text(self._ids)
        self._read = 0
        self._kv: KV | None = None
        self._stats: list[TokenStat] = []
        self._scored: list[ScoredToken] = []
        self._following: tuple[int, ScoredToken] | None = None
        if alternatives is not None and self._ids:
            self._scored.append(loaded.scored(self._ids[0], None))

    @property
    def done(self) -> bool:
        return self._read >= len(self._ids)

    def step(self) -> None:
        import torch

        portion = self._ids[self._read : self._read + _PORTION]
        known, device = self._read, self._loaded.model.device
        cache = stack([self._kv], known, len(portion))
        with torch.inference_mode():
            scores = self._loaded.model(
                input_ids=torch.tensor([portion], device=device),
                attention_mask=torch.ones(1, known + len(portion), dtype=torch.long, device=device),
                position_ids=torch.arange(known, known + len(portion), device=device)[None],
                past_key_values=cache,
                use_cache=True,
            ).logits[0]
            self._read += len(portion)
            behind = self._ids[known + 1 : self._read + 1]  # the token behind each, the text's last has none
            for start in range(0, len(portion), _POSITIONS):
                self._take(scores[start : start + _POSITIONS], behind[start : start + _POSITIONS])
            self._kv = None if self.done else kv_row(cache, 0, 0, self._read)

    def _take(self, scores: torch.Tensor, behind: Sequence[int]) -> None:
        """Note what was predicted at some places, and for the tokens that stand behind them."""
        import torch

        known = torch.log_softmax(scores.float(), dim=-1)
        best = known.topk(min(self._top, known.shape[-1]))
        values, indices = best.values.tolist(), best.indices.tolist()
        own = known[torch.arange(len(behind)), torch.tensor(behind, dtype=torch.long, device=known.device)].tolist()
        self._stats += [token_stat(a, b, known.shape[-1]) for a, b in zip(own, values, strict=False)]
        if self._alternatives is None:
            return
        for place, (ids, logprobs) in enumerate(zip(indices, values, strict=True)):
            likeliest = list(zip(ids, logprobs, strict=True))
            top = tuple(self._loaded.scored(*one) for one in likeliest[: self._alternatives])
            if place < len(behind):
                self._scored.append(self._loaded.scored(behind[place], own[place], top))
            else:
                self._following = likeliest[0][0], self._loaded.scored(*likeliest[0], top)

    def reading(self) -> Reading:
        token, following = self._following or (None, None)
        return Reading(
            [self._loaded.text([token]) for token in self._ids],
            self._stats,
            Usage(prompt=len(self._ids), completion=0 if following is None else 1),
            text=self._text,
            scored=self._scored,
            following=following,
            ended=token in self._loaded.ends,
        )


def checked_ids(loaded: Loaded, text: str | Sequence[int]) -> list[int]:
    """Return a text's token ids; raises UsageError for ids that the model does not have."""
    if isinstance(text, str):
        found: list[int] = loaded.tokenizer(text)["input_ids"]
        return found
    known = loaded.model.get_input_embeddings().num_embeddings
    if not all(0 <= token < known for token in text):  # on a GPU this would end the process's CUDA context
        raise UsageError(f"{loaded.spec.name} has no such token: ids go from 0 to {known - 1}")
    return list(text)
