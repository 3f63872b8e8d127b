"""Log-probabilities of a given text from an in-process model: one pass, not cached."""

from __future__ import annotations

from tandem.errors import UsageError
from tandem.ledger import Usage
from tandem.models.base import Reading
from tandem.models.logprobs import TokenStat, token_stat
from tandem.models.transformers.load import Loaded

_POSITIONS = 64  # whose scores over the whole vocabulary are in float32 at once


def read_text(loaded: Loaded, text: str, top_logprobs: int, max_tokens: int | None) -> Reading:
    """Return the log-probabilities of `text`, tokenised as it is. Raises UsageError for one longer than the context."""
    import torch

    ids: list[int] = loaded.tokenizer(text)["input_ids"][:max_tokens]
    limit = loaded.spec.context
    if limit is not None and len(ids) > limit:
        raise UsageError(f"{loaded.spec.name} reads {limit} tokens at most, the text has {len(ids)}")
    stats: list[TokenStat] = []
    if len(ids) > 1:
        with torch.inference_mode():
            given = torch.tensor([ids], device=loaded.model.device)
            scores = loaded.model(input_ids=given, use_cache=False).logits[0, :-1]
            for start in range(0, len(scores), _POSITIONS):
                known = torch.log_softmax(scores[start : start + _POSITIONS].float(), dim=-1)
                own = known.gather(1, given[0, start + 1 : start + 1 + len(known), None])[:, 0].tolist()
                best = known.topk(min(top_logprobs, known.shape[-1])).values.tolist()
                stats += [token_stat(a, b, known.shape[-1]) for a, b in zip(own, best, strict=True)]
    return Reading([loaded.text([token]) for token in ids], stats, Usage(prompt=len(ids)))
