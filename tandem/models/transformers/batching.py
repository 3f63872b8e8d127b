"""Continuous batching: active sequences share one forward pass per token.

Sequences lie in one left-padded batch. Its key-value (KV) tensors grow in place; they are copied only when a sequence
joins or leaves, and every 64 tokens. Prompts are read in portions beside the batch, and then join it. Nothing here
knows about asyncio or text; one thread uses it.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, TypeVar

from tandem.models.logprobs import TokenStat, token_stat
from tandem.models.transformers.kv import SPARE, kv_length, kv_row, stack
from tandem.spec import Sampling

if TYPE_CHECKING:
    import torch

    from tandem.models.transformers.grammar import JsonGrammar
    from tandem.models.transformers.kv import KV

_GREEDY = 1e-5  # lower temperatures are treated as 0: dividing the logits would overflow
_NUCLEUS = 1024  # candidates looked at before the whole vocabulary is sorted for top-p


class SampledToken(NamedTuple):
    token: int
    stat: TokenStat | None
    likeliest: tuple[tuple[int, float], ...] = ()  # tokens with their log-probabilities, where they are asked for


@dataclass(eq=False, kw_only=True)
class Row:
    """One sequence: what was read and written so far, and how the next token is drawn."""

    tokens: list[int]  # the prompt, then what was written
    sampling: Sampling
    top: int = 0  # log-probabilities wanted per token; 0: no statistics
    alternatives: int | None = None  # how many of the likeliest tokens are wanted themselves
    grammar: JsonGrammar | None = field(default=None, repr=False)
    affinity: str = ""
    cached: int = 0  # prompt tokens taken from the store
    resumable: bool = False  # it was cut at its cap: the next request may go on from here
    kv: KV | None = field(default=None, repr=False)  # while the prompt is being read
    prompt: int = field(init=False)
    generator: torch.Generator | None = field(init=False, default=None, repr=False)

    def __post_init__(self) -> None:
        import torch

        self.prompt = len(self.tokens)
        if self.sampling.temperature > _GREEDY:
            self.generator = torch.Generator()
            if self.sampling.seed is None:
                self.generator.seed()
            else:
                self.generator.manual_seed(self.sampling.seed % 2**63)

    @property
    def is_bent(self) -> bool:
        sampling = self.sampling
        return self.grammar is not None or bool(sampling.presence_penalty or sampling.frequency_penalty)

    def bent(self, logits: torch.Tensor) -> torch.Tensor:
        """Return the logits (vocabulary) that the next token is drawn by: with penalties, and by the grammar."""
        if not self.is_bent:
            return logits
        logits, once, each = logits.clone(), self.sampling.presence_penalty, self.sampling.frequency_penalty
        if once or each:
            import torch

            written = Counter(self.tokens[self.prompt :])
            less = torch.tensor([once + times * each for times in written.values()], dtype=logits.dtype)
            logits[torch.tensor(list(written), dtype=torch.long, device=logits.device)] -= less.to(logits.device)
        if self.grammar is not None:
            self.grammar.bend(logits)
        return logits

    @property
    def unread(self) -> int:
        return len(self.tokens) - kv_length(self.kv)


R = TypeVar("R", bound=Row)


class PromptStore:
    """KV tensors of the last prompt per affinity key, the least recently used thrown out beyond `limit` bytes."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._entries: OrderedDict[str, tuple[list[int], KV, int]] = OrderedDict()
        self._bytes = 0

    def take(self, affinity: str, tokens: Sequence[int]) -> KV | None:
        """Return KV tensors for the longest known beginning of `tokens`, leaving at least one token to compute."""
        if affinity not in self._entries:
            return None
        self._entries.move_to_end(affinity)
        known, kv, _ = self._entries[affinity]
        limit = min(len(known), len(tokens) - 1)
        common = next((i for i in range(limit) if known[i] != tokens[i]), limit)
        return [(k[:, :common], v[:, :common]) for k, v in kv] if common else None

    def put(self, affinity: str, tokens: list[int], kv: KV) -> None:
        """Keep `kv`, which must not be written to afterwards, for `tokens`."""
        size = sum(t.numel() * t.element_size() for pair in kv for t in pair)
        if not affinity or size > self._limit:
            return
        if affinity in self._entries:
            self._bytes -= self._entries.pop(affinity)[2]
        self._entries[affinity] = (tokens, kv, size)
        self._bytes += size
        while self._bytes > self._limit:
            self._bytes -= self._entries.popitem(last=False)[1][2]

    def clear(self) -> None:
        self._entries.clear()
        self._bytes = 0


class Batch(Generic[R]):
    def __init__(self, model: Any, store: PromptStore, *, portion: int) -> None:
        """`portion` is how many prompt tokens, padding included, are read in one forward pass."""
        self.rows: list[R] = []
        self.portion = portion
        self._model = model
        self._store = store
        self._cache: Any = None
        self._width = 0  # tokens in the KV tensors, left padding included: the longest row has none

    def group(self, waiting: Sequence[R]) -> list[R]:
        """Return the rows to read next in one pass: the first, and others that fit beside it with little padding."""
        group: list[R] = []
        longest = useful = 0
        for row in waiting:
            if row.kv is None and (kv := self._store.take(row.affinity, row.tokens)):
                row.kv, row.cached = kv, kv_length(kv)
            size = min(row.unread, self.portion)
            padded = max(longest, size) * (len(group) + 1)
            if not group or (padded <= self.portion and useful + size >= 0.75 * padded):
                group.append(row)
                longest, useful = max(longest, size), useful + size
        return group

    def prefill(self, group: Sequence[R]) -> list[tuple[R, SampledToken]]:
        """Read the next portion of each prompt; return the first token of those that were read to their end.

        The rows do not join the batch by this. A pass holds [padding][what is known][new tokens][padding].
        """
        import torch

        known = [kv_length(row.kv) for row in group]
        portions = [row.tokens[n : n + self.portion] for row, n in zip(group, known, strict=True)]
        width, longest = max(known), max(map(len, portions))
        ids = torch.zeros(len(group), longest, dtype=torch.long)
        mask = torch.ones(len(group), width + longest, dtype=torch.long)
        positions = torch.arange(longest) + torch.tensor(known)[:, None]
        for i, portion in enumerate(portions):
            ids[i, : len(portion)] = torch.tensor(portion)
            positions[i].clamp_(max=known[i] + len(portion) - 1)
            mask[i, : width - known[i]] = 0
        cache = stack([row.kv for row in group], width, longest)
        ends = sorted({len(portion) - 1 for portion in portions})
        logits = self._forward(cache, ids, mask, positions, torch.tensor(ends))
        done, last = [], []
        for i, (row, portion) in enumerate(zip(group, portions, strict=True)):
            row.kv = kv_row(cache, i, width - known[i], width + len(portion))
            if row.unread == 0:
                done.append(row)
                last.append(logits[i, ends.index(len(portion) - 1)])
                self._store.put(row.affinity, row.tokens[: row.prompt], row.kv)
        return self._choose(done, torch.stack(last)) if done else []

    def decode(self) -> list[tuple[R, SampledToken]]:
        import torch

        ids = torch.tensor([row.tokens[-1:] for row in self.rows])
        positions = torch.tensor([[len(row.tokens) - 1] for row in self.rows])
        mask = (torch.arange(self._width + 1) >= self._width - positions).long()
        logits = self._forward(self._cache, ids, mask, positions, 1)[:, -1]
        self._width += 1
        return self._choose(self.rows, logits)

    def change(self, leave: Collection[R], join: Sequence[R]) -> None:
        """Remove rows, and add rows with a read prompt and a sampled first token."""
        keep = [i for i, row in enumerate(self.rows) if row not in leave]
        if len(keep) == len(self.rows) and not join:
            return
        for i, row in enumerate(self.rows):
            if row in leave and row.resumable and row.affinity:
                size = len(row.tokens) - 1
                self._store.put(
                    row.affinity, row.tokens[:size], kv_row(self._cache, i, self._width - size, self._width)
                )
        old, self.rows = self._width, [*(self.rows[i] for i in keep), *join]
        self._width = max((len(row.tokens) - 1 for row in self.rows), default=0)
        self._cache = stack([row.kv for row in join], self._width, SPARE, (self._cache, keep, old))
        for row in join:
            row.kv = None  # it lives in the batch now

    def clear(self) -> None:
        """Drop every row and the prompt cache: after a failed pass the KV tensors may be half written."""
        self.rows, self._cache, self._width = [], None, 0
        self._store.clear()

    def _forward(self, cache: Any, ids: Any, mask: Any, positions: Any, keep: Any) -> torch.Tensor:
        """Return float32 logits (rows, kept positions, vocabulary); `cache` grows by the tokens of `ids`."""
        device = self._model.device
        output = self._model(
            input_ids=ids.to(device),
            attention_mask=mask.to(device),
            position_ids=positions.to(device),
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=keep if isinstance(keep, int) else keep.to(device),
        )
        return output.logits.float()

    def _choose(self, rows: Sequence[R], logits: torch.Tensor) -> list[tuple[R, SampledToken]]:
        choices = choose(rows, logits)
        for row, choice in zip(rows, choices, strict=True):
            row.tokens.append(choice.token)
        return list(zip(rows, choices, strict=True))


def choose(rows: Sequence[Row], logits: torch.Tensor) -> list[SampledToken]:
    """Draw one token per row from float32 logits (rows, vocabulary); statistics are those of the raw logits."""
    tokens = logits.argmax(-1)
    for i, row in enumerate(rows):
        if row.generator is not None:
            tokens[i] = _draw(row.bent(logits[i]), row.sampling, row.generator)
        elif row.is_bent:
            tokens[i] = row.bent(logits[i]).argmax()
        if row.grammar is not None:
            row.grammar.take(int(tokens[i]))
    stats: dict[int, TokenStat] = {}
    likeliest: dict[int, tuple[tuple[int, float], ...]] = {}
    wanted = [i for i, row in enumerate(rows) if row.top]
    if wanted:
        raw = logits if len(wanted) == len(rows) else logits[wanted]
        total = raw.logsumexp(-1, keepdim=True)  # log-softmax without a second copy of the logits
        k = min(max(row.top for row in rows), raw.shape[-1])
        best = raw.topk(k)
        top = (best.values - total).tolist()
        own = (raw.gather(1, tokens[wanted][:, None]) - total).squeeze(1).tolist()
        for n, i in enumerate(wanted):
            stats[i] = token_stat(own[n], top[n][: rows[i].top], raw.shape[-1])
            if wished := rows[i].alternatives:
                likeliest[i] = tuple(zip(best.indices[n].tolist(), top[n], strict=True))[:wished]
    return [SampledToken(token, stats.get(i), likeliest.get(i, ())) for i, token in enumerate(tokens.tolist())]


def _draw(logits: torch.Tensor, sampling: Sampling, generator: torch.Generator) -> torch.Tensor:
    """Draw one token from logits (vocabulary) by inverse transform: one random number from the request's generator."""
    import torch

    weights = (logits / sampling.temperature).softmax(-1)
    order = None
    if sampling.top_p < 1:
        weights, order = _nucleus(weights, sampling.top_p)
    sums = weights.cumsum(-1)
    point = torch.rand(1, generator=generator).to(sums.device) * sums[-1]
    index = torch.searchsorted(sums, point, right=True).clamp_(max=len(sums) - 1)
    return index[0] if order is None else order[index[0]]


def _nucleus(weights: torch.Tensor, top_p: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the likeliest tokens' weights and ids: the fewest whose weights (summing to 1 over all) reach `top_p`."""
    best, order = weights.topk(min(_NUCLEUS, len(weights)))
    if best.sum() < top_p:
        best, order = weights.sort(descending=True)
    inside = best.cumsum(-1) - best < top_p
    inside[0] = True
    return best[inside], order[inside]
