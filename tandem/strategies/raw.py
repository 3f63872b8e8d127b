"""One model alone: it answers the problem, or completes a text as it stands and gives its tokens' log-probabilities."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence

from tandem.errors import CapabilityError
from tandem.ledger import Role
from tandem.models.base import Model, Tokenizes
from tandem.strategies.context import Context, stream_answer
from tandem.strategies.reading import read
from tandem.types import AnswerDelta, Event, ScoredToken


def stream_alone(role: Role, ctx: Context, level: str) -> AsyncGenerator[Event, None]:
    """Stream the answer of one model, or what it writes behind a raw prompt."""
    return stream_answer(role, ctx, level) if ctx.problem.raw is None else complete_raw(role, ctx, level)


async def complete_raw(role: Role, ctx: Context, level: str) -> AsyncGenerator[Event, None]:
    """Stream the prompt where it is to be echoed, and what the model writes behind it; the solution's text is both.

    The token that ends a text has a log-probability like every other, and no text.
    """
    raw, wanted = ctx.problem.raw, ctx.problem.logprobs
    assert raw is not None
    texts, tokens, ended = list[str](), list[ScoredToken](), False
    reading = None
    if raw.echo:
        if wanted is not None:
            reading = await read(ctx, role, raw.text, "answer", top_logprobs=max(wanted, 1), alternatives=wanted)
            tokens += reading.scored
        texts.append(await _text(ctx.model(role), raw.text) if reading is None else reading.text)
        yield AnswerDelta(texts[0], tuple(tokens))
    if not raw.write:
        pass
    elif reading is not None and reading.following and _wants_likeliest(role, ctx):
        ended, own = reading.ended, reading.following
        written = "" if ended or own.raw is not None else own.text  # a part of a character is no text
        texts.append(written)
        tokens.append(own)
        yield AnswerDelta(written, (own,))
    else:
        async with ctx.call(role, "answer", ctx.problem.messages) as call:
            async for delta in call:
                texts.append(delta.text)
                tokens += delta.scored
                if delta.text or delta.scored:
                    yield AnswerDelta(delta.text, tuple(delta.scored))
        ended = call.require_end().finish_reason == "stop"
    solution = ctx.solution("".join(texts), role, level, truncated=not ended)
    solution.tokens = None if wanted is None else tuple(tokens)
    yield solution


def _wants_likeliest(role: Role, ctx: Context) -> bool:
    """Whether one token is wanted, and that the likeliest: reading the prompt has told it already."""
    sampling = ctx.sampling(role)
    return ctx.max_tokens(role) == 1 and sampling.temperature == 0 and not sampling.stop


async def _text(model: Model, text: str | Sequence[int]) -> str:
    if isinstance(text, str):
        return text
    if not isinstance(model, Tokenizes):
        raise CapabilityError(f"{model.spec.name} has no tokenizer here that turns token ids into text")
    return await model.decode(text)
