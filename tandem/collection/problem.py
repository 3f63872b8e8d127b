"""One problem's rows: at most two mentor generations and an ending for each budget; one intern answer per level and
sample.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Mapping
from dataclasses import dataclass
from typing import Any

from tandem.collection.plan import CollectionPlan, Key, Source, budget_name, hint_name
from tandem.collection.rows import STAT_PLACES, Folder, Row, rounded, signals_of
from tandem.collection.texts import CHECKPOINT, MentorText, Texts, TextWriter
from tandem.errors import TandemError
from tandem.grading import Sandbox, answer_of, grade
from tandem.insight import answer_messages, intern_view, mentor_messages, opening, token_by_token, trim
from tandem.ladder import ANSWER
from tandem.ledger import Ledger, Role
from tandem.models.base import Model, Request, cue
from tandem.models.call import Call
from tandem.runs.journal import Journal
from tandem.spec import Continuation, InsightMode
from tandem.strategies.budget_forcing import force
from tandem.strategies.context import begins_within, whole_text, within_context
from tandem.sufficiency.rows import HINT
from tandem.sufficiency.signals import question_candidates, question_signals
from tandem.thinking import as_thought, is_open
from tandem.types import Message, Problem


@dataclass(frozen=True, slots=True)
class Tools:
    mentor: Model
    intern: Model
    plan: CollectionPlan
    folder: Folder
    texts: Texts
    journal: Journal
    sandbox: Sandbox | None


class ProblemWork:
    """The work on one problem. An error at one level does not prevent saving the others."""

    def __init__(self, tools: Tools, problem: Problem) -> None:
        self._tools, self._problem, self._plan = tools, problem, tools.plan
        self._mode = tools.mentor.spec.insight_mode
        self._texts: dict[Source, asyncio.Task[MentorText]] = {}
        self._rows: dict[Key, asyncio.Task[Row]] = {}

    def missing(self) -> list[Key]:
        return [key for key in self._plan.keys(self._problem.id) if key not in self._tools.folder]

    async def carry_out(self) -> None:
        """Collect the missing rows; raises the first error after all others are done."""
        missing, ladder, one = self.missing(), self._plan.ladder, self._problem.id
        jobs: list[Coroutine[Any, Any, None]] = []
        # Rows without the mentor first, so that the intern works while the mentor writes.
        for key in missing:
            if key.level == "none" and any(level.tokens == 0 for level in ladder):
                self._ask(key, "", {"insight_tokens": 0, "insight": ""}, "gpra")
        levels = {level.name for level in self._plan.insight_levels}
        if any(key.level in levels for key in missing):
            jobs.append(self._levels([key for key in missing if key.level in levels]))
        forced = {tokens: key for tokens in self._plan.budgets if (key := Key(one, budget_name(tokens))) in missing}
        if Key(one, ANSWER) in missing or forced:
            jobs.append(self._answer(forced, own=Key(one, ANSWER) in missing))
        if hints := [key for key in missing if key.level.startswith(HINT)]:
            jobs.append(self._hints(hints))
        try:
            ended: list[Any] = await asyncio.gather(*jobs, return_exceptions=True)
            ended += await asyncio.gather(*self._rows.values(), return_exceptions=True)
        except asyncio.CancelledError:
            for row in self._rows.values():
                row.cancel()
            await asyncio.gather(*self._rows.values(), return_exceptions=True)
            raise
        for error in ended:
            if isinstance(error, BaseException):
                raise error

    async def _answer(self, forced: Mapping[int, Key], *, own: bool) -> None:
        """Save the mentor's answer, and its shorter answers under each token budget."""
        text = await self._text("answer")
        assert text.counts is not None
        if own:
            cut = text.counts["truncated"] and begins_within(self._tools.mentor.spec)
            await self._keep(Key(self._problem.id, ANSWER), as_thought(text.text) if cut else text.text, text.counts)
        for budget, key in forced.items():
            if text.insight.tokens <= budget:
                await self._keep(key, text.text, text.counts | {"same": True})
            else:
                self._rows[key] = asyncio.create_task(self._force(key, text, text.insight.cut(budget)))

    async def _force(self, key: Key, whole: MentorText, cut: tuple[str, int]) -> Row:
        """Let the mentor end its answer at the cut, charged as if it had not written more."""
        (written, tokens), counts, tools = cut, whole.counts or {}, self._tools
        forced, ledger = force(self._problem, written, tools.mentor.spec, self._plan.answer_cap), Ledger()
        request = self._mentor_request(forced.messages, "answer", forced.prefix, forced.max_tokens)
        call = await self._call(tools.mentor, request, "mentor", ledger).complete()
        found = _counts(call, ledger)
        read, before = found["prompt_tokens"], counts["prompt_tokens"]
        # Continuing its own text it reads only the cue; asked in a new turn it reads everything again.
        reread = forced.prefix is None
        found["prompt_tokens"] = before + read if reread else before
        found["completion_tokens"] += tokens if reread else max(read - before, tokens)
        found["cached_tokens"] = counts["cached_tokens"]
        return await self._keep(key, forced.head + call.text, found | {"same": False})

    async def _levels(self, missing: list[Key]) -> None:
        """Let the intern answer with the insight cut at each level."""
        source = await self._text(self._plan.source(self._mode))
        assert source.counts is not None
        insight, before, level_before = source.insight, 0, ""
        for level in self._plan.ladder:
            if level.is_answer:
                break
            budget = level.tokens or 0
            text, tokens = insight.cut(budget)
            same = bool(level_before) and tokens == before
            extra = {
                "insight_tokens": tokens,
                "insight": text,
                "mentor_prompt_tokens": source.counts["prompt_tokens"],
                "insight_finished": insight.exhausted(budget),
                "same": same,
            }
            for key in missing:
                if key.level == level.name:
                    if same:
                        self._copy(key, key._replace(level=level_before), extra)
                    else:
                        self._ask(key, trim(text), extra, "prefix" if self._mode == "prefix" else "gpra")
            before, level_before = tokens, level.name

    async def _hints(self, missing: list[Key]) -> None:
        """Let the intern continue the first part of the mentor's answer."""
        source = (await self._text("answer")).insight
        none = any(level.tokens == 0 for level in self._plan.ladder)
        before, level_before = 0, "none" if none else ""
        for share in self._plan.hints:
            text, tokens = source.cut(source.tokens * share // 100)
            same = bool(level_before) and tokens == before
            extra = {"hint_tokens": tokens, "same": same}
            for key in missing:
                if key.level == hint_name(share):
                    if same:
                        self._copy(key, key._replace(level=level_before), extra)
                    else:
                        self._ask(key, text, extra, "prefix")
            before, level_before = tokens, hint_name(share)

    def _ask(self, key: Key, insight: str, extra: Row, view: InsightMode) -> None:
        self._rows[key] = asyncio.create_task(self._intern_answer(key, insight, extra, view))

    def _copy(self, key: Key, of: Key, extra: Row) -> None:
        """Copy the answer of another level if the intern's prompt is the same."""
        there = self._rows.get(of)

        async def copied() -> Row:
            row = self._tools.folder.row(of) if there is None else await there
            if row is None:
                raise TandemError(f"{of.problem}: the row of {of.level}, which {key.level} copies, is damaged")
            kept = {k: v for k, v in row.items() if k not in ("insight", "insight_tokens", *_HEAD)}
            new = _head(key) | kept | extra
            self._tools.folder.add(new)
            return new

        self._rows[key] = asyncio.create_task(copied())

    async def _intern_answer(self, key: Key, insight: str, extra: Row, view: InsightMode) -> Row:
        messages, prefix = intern_view(self._problem, insight, view)
        plan, ledger, question = self._plan, Ledger(), self._problem.question
        read = extra.get("insight_tokens", 0) or extra.get("hint_tokens", 0)
        request = Request(
            messages=messages,
            purpose="answer",
            max_tokens=plan.max_tokens,
            sampling=plan.sampled(key.sample),
            prefix=prefix,
            top_logprobs=plan.top_logprobs,
            affinity=self._problem.id,
            cue=cue(self._tools.intern.spec, question, self._problem.reference, "intern", read),
        )
        request = within_context(request, self._tools.intern)
        # A call that ended just before a kill, without its row, is given again; each sample has its own.
        call = await self._call(self._tools.intern, request, "intern", ledger, read, key.sample).complete()
        # Signals added later are computed from the stored statistics, and so are these: they must agree.
        stats = [[round(value, STAT_PLACES) for value in stat] for stat in call.stats]
        asked = question_signals(self._tools.intern.count(question)) | question_candidates(question)
        signals = signals_of(stats) | {"question": rounded(asked)}
        own = _counts(call, ledger) | extra | {"signals": signals, "stats": stats}
        return await self._keep(key, whole_text(call, prefix or ""), own)

    async def _text(self, source: Source) -> MentorText:
        """Return a text of the mentor, generated once for all levels that wait for it."""
        if source not in self._texts:
            self._texts[source] = asyncio.create_task(self._write(source))
        task = self._texts[source]
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            if self._continues:
                task.cancel()  # the partial text is kept, and continued
            await asyncio.wait({task})  # otherwise it would be lost or generated again
            raise

    @property
    def _continues(self) -> bool:
        return self._tools.mentor.spec.continuation is Continuation.NATIVE

    async def _write(self, source: Source) -> MentorText:
        """Let the mentor write, continuing a partial text if it can."""
        tools, plan, problem = self._tools, self._plan, self._problem
        begun = opening(self._mode, tools.mentor.spec.continuation) if source == "insight" else ""
        text = tools.texts.get(problem.id, source, begun)
        if text.counts is None and not text.insight.tokens:
            text = self._from_row(source, begun) or text
        if text.counts is not None:
            return text
        if not self._continues:
            text = MentorText()
        had, cap = text.insight.tokens, plan.cap(source)
        messages = answer_messages(problem) if source == "answer" else mentor_messages(problem, self._mode)
        checkpoint = CHECKPOINT if self._continues else None
        pieces, ledger = TextWriter(tools.texts, problem.id, source, had, checkpoint), Ledger()
        if had >= cap:  # killed between the last token and the server's report
            asked = sum(tools.mentor.count(m.content) for m in messages) + tools.mentor.count(begun)
            text.counts = dict(zip(_COUNTS, (asked, 0, had, True), strict=True))
            pieces.flush(text.counts)
            return text
        request = self._mentor_request(messages, source, text.text or None, cap - had)

        def feed(piece: str, tokens: int) -> None:
            text.insight.feed(piece, tokens)
            pieces.add(piece, tokens)

        try:
            async with self._call(tools.mentor, request, "mentor", ledger) as call:
                async for delta in call:
                    for piece, tokens in token_by_token(delta.text, delta.tokens, tools.mentor.cut):
                        feed(piece, tokens)
        finally:
            if self._continues:
                pieces.flush()
        counts = _counts(call, ledger)
        counts["prompt_tokens"] = max(counts["prompt_tokens"] - had, 0)  # as if it had not been interrupted
        counts["cached_tokens"] = min(counts["cached_tokens"], counts["prompt_tokens"])
        counts["completion_tokens"] += had
        text.counts, text.insight.finished = counts, not counts["truncated"]
        pieces.flush(counts)
        return text

    def _mentor_request(
        self, messages: tuple[Message, ...], source: Source, prefix: str | None, max_tokens: int
    ) -> Request:
        request = Request(
            messages=messages,
            purpose=source,
            max_tokens=max_tokens,
            sampling=self._plan.mentor_sampling or self._plan.sampling,
            prefix=prefix,
            affinity=self._problem.id,
            cue=cue(self._tools.mentor.spec, self._problem.question, self._problem.reference, "mentor"),
        )
        return within_context(request, self._tools.mentor)

    def _from_row(self, source: Source, begun: str) -> MentorText | None:
        """Return the text from a row: older collections stored it only there."""
        highest = ANSWER if source == "answer" else self._plan.insight_levels[-1].name
        row = self._tools.folder.row(Key(self._problem.id, highest))
        if row is None:
            return None
        whole, tokens = row["text"], row["completion_tokens"]
        counts = {name: row[name] for name in _COUNTS}
        if source == "insight":
            whole, tokens = row["insight"], row["insight_tokens"]
            counts |= {"prompt_tokens": row["mentor_prompt_tokens"], "truncated": not row["insight_finished"]}
        found = MentorText(counts=counts)
        head = begun if whole.startswith(begun) else ""
        found.insight.feed(head, 0)
        found.insight.feed_exact(whole[len(head) :], tokens, self._tools.mentor.cut)
        found.insight.finished = not counts["truncated"]
        return found

    def _call(self, model: Model, request: Request, role: Role, ledger: Ledger, read: int = 0, sample: int = 0) -> Call:
        journal = self._tools.journal
        return Call(model, request, role, ledger, read_tokens=read, recorder=journal, occurrence=sample)

    async def _keep(self, key: Key, text: str, fields: Row) -> Row:
        correct = await grade(self._problem, text, sandbox=self._tools.sandbox)
        if correct is None:
            raise TandemError(f"{key.problem} cannot be graded: it has no reference, or it is code and may not run")
        row: Row = {
            **_head(key),
            "task": self._problem.task,
            "correct": correct,
            "extracted": answer_of(self._problem, text) is not None,
            "question_tokens": self._tools.intern.count(self._problem.question),
            **fields,
            "truncated": fields["truncated"] or is_open(text),
            "text": text,
        }
        self._tools.folder.add(row)
        return row


_HEAD = ("problem", "level", "sample")
_COUNTS = ("prompt_tokens", "cached_tokens", "completion_tokens", "truncated")


def _head(key: Key) -> Row:
    return {"problem": key.problem, "level": key.level} | ({"sample": key.sample} if key.sample else {})


def _counts(call: Call, ledger: Ledger) -> Row:
    """Return a call's counts for the table; raises TandemError for one that was cut."""
    call.require_end()
    usage = ledger.entries[-1].usage
    return dict(
        zip(_COUNTS, (usage.prompt, usage.cached, usage.completion, call.finish_reason == "length"), strict=True)
    )
