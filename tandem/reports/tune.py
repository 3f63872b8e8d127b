"""Tuning a pair on somebody's own problems: hold-out, collection, training, and the verdict on the hold-out.

The hold-out is collected at every level like the rest, in a folder of its own that training never reads. So the tuned
point, intern-only, mentor-only and the levels between are evaluated there by replay, on answers that are paid for once,
and written as a comparison with its page. Nothing here has a loop of its own: calls are the collection's, which resumes
them, and every later stage is a function of the files before it.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import math
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from tandem.collection.collector import CollectionProgress
from tandem.collection.holdout import split
from tandem.collection.job import CollectionJob
from tandem.collection.manifest import continued, describe_dataset
from tandem.collection.plan import CollectionPlan
from tandem.collection.rows import Folder, calls, key_of, spent
from tandem.config import SolveOptions
from tandem.costs import Unit, assumed_profile, default_unit, figure, pair_rates, rates
from tandem.engine import Tandem
from tandem.errors import LimitReached, UsageError
from tandem.grading import Sandbox
from tandem.ladder import Ladder, format_ladder, parse_ladder
from tandem.ledger import Role
from tandem.reports.comparison import MENTOR_ONLY, report
from tandem.reports.page.gather import read_comparison
from tandem.reports.page.writers import write_comparison
from tandem.reports.replayed import Ending, records, replay_point
from tandem.reports.tune_verdict import LEVEL, OURS, HeldOutOutcome, asked_aim, conclude, of_aim
from tandem.reports.verdict import verdict
from tandem.runs.compare import Part, folders_of
from tandem.runs.manifest import describe_run
from tandem.runs.outcomes import RunOutcomes, outcomes_of
from tandem.runs.store import RunStore, write_problems
from tandem.runs.summary import summarise
from tandem.runs.work import Limits, time_is_over
from tandem.spec import ModelSpec
from tandem.storage.files import write_whole
from tandem.storage.formats import read_stamped, stamped
from tandem.sufficiency.classifier import Classifier, load_classifier
from tandem.sync import wait
from tandem.training import certify
from tandem.training.aims import Aim
from tandem.training.data import read_collection
from tandem.training.fit import MIN_PROBLEMS, OneSidedError, Problems, complete, with_question
from tandem.training.replay import Pair
from tandem.training.train import anchor_name, train
from tandem.types import Problem

TUNE, FORMAT = "tune.json", 1
COLLECTED, HELD, CLASSIFIER, COMPARISON = "collected", "holdout", "classifier", "comparison"
BOOSTED_FROM = 500  # problems: below, boosted trees have not been seen to beat the regression, and take minutes
# Tokens of a usual answer, of notes for the intern, and of a thinking model's answer, for the likely cost.
USUAL_ANSWER, USUAL_NOTES, USUAL_THINKING = 350, 300, 2700
LADDER = "none,low,medium,high,answer"
Say = Callable[[str], None]
Report = Callable[[CollectionProgress], None]


@dataclass(slots=True)
class Tuning:
    """A pair's tuning in a folder; the same one again goes on where it stopped.

    `problems` are learned from, `held` evaluate what was learned; `data` says how they were loaded.
    """

    engine: Tandem
    plan: CollectionPlan
    problems: Sequence[Problem]
    held: Sequence[Problem]
    data: Mapping[str, Any]
    out: Path
    unit: Unit | None = None  # None: the pair's default
    aim: Aim = field(default_factory=Aim)
    datasets: list[dict[str, Any]] = field(default_factory=list)
    limits: Limits = field(default_factory=Limits)
    concurrency: int = 32
    timeout: float | None = None
    endpoints: Mapping[Role, str | None] = field(default_factory=dict)
    sandbox: Sandbox | None = None
    seed: int = 0
    command: str = "tandem.tune"

    @classmethod
    def of(
        cls,
        engine: Tandem,
        problems: Sequence[Problem],
        out: Path | str,
        *,
        data: Mapping[str, Any] | None = None,
        holdout: float | int = 0.3,
        effort: str = LADDER,
        mentor_max_tokens: int | None = None,
        intern_max_tokens: int | None = None,
        drawn: bool = False,
        **fields: Any,
    ) -> Tuning:
        """Return the tuning of an engine's pair on graded problems, a share (or number) of which is held out.

        `effort` are the levels to collect, the caps those of an answer (None: as the makers advise); `drawn` says that
        the engine's sampling is the user's wish. What is None and was begun in `out` goes on as it began. `fields` are
        the rest of a tuning's: unit, aim, limits, concurrency, sandbox, seed. Raises UsageError for problems that
        cannot be split, or are too few (`check`).
        """
        folder, about = Path(out), data or {"name": "problems"}
        plan = CollectionPlan.of(
            engine.settings,
            engine.mentor.spec,
            engine.intern.spec,
            mentor_max_tokens=mentor_max_tokens,
            intern_max_tokens=intern_max_tokens,
            ladder=parse_ladder(effort),
        )
        capped = bool(mentor_max_tokens or intern_max_tokens)
        plan = continued(plan, folder / COLLECTED, sampling=not drawn, caps=not capped)
        learned, held = split(problems, holdout)
        described = [describe_dataset({**about, "holdout": holdout}, learned)]
        tuning = cls(engine, plan, learned, held, about, folder, datasets=described, **fields)
        tuning.check()
        return tuning

    async def arun(self, say: Say = lambda line: None, progress: Report = lambda progress: None) -> dict[str, Any]:
        """Collect what is missing, train, evaluate; return the result, which is in tune.json too.

        `say` is told of each step of the training, `progress` of each collected problem. Raises LimitReached where a
        limit ends it before: the same call goes on.
        """
        self.estimate()  # a budget that does not suffice is refused before anything is sent
        await self.engine.prepare()
        if stopped := await self.collect(progress):
            raise LimitReached(stopped)
        return self.evaluate(*await asyncio.to_thread(self.train, say))

    def run(self, say: Say = lambda line: None) -> dict[str, Any]:
        """Tune from sync code; the sync version of `arun`."""
        self.engine._used_from_sync = True
        return wait(self.arun(say))

    def notes(self, again: str = "the same call") -> list[str]:
        """Return what is to be known of the collected answers: too many that were cut, problems that failed.

        `again` is what tries those again.
        """
        found = []
        for job in self.jobs():
            found += job.cut_warnings()
            if failed := len(job.missing()):
                found.append(
                    f"{failed} failed and are left out (errors.jsonl in {job.out}); to try them again: {again}"
                )
        return found

    def jobs(self) -> tuple[CollectionJob, CollectionJob]:
        """Return the collections of the problems to learn from and of those held out."""
        how: dict[str, Any] = {
            "datasets": self.datasets,
            "sandbox": self.sandbox,
            "concurrency": self.concurrency,
            "timeout": self.timeout,
            "endpoints": dict(self.endpoints),
        }
        ours = CollectionJob(self.engine, self.plan, self.problems, out=self.out / COLLECTED, held=self.held, **how)
        return ours, CollectionJob(self.engine, self.plan, self.held, out=self.out / HELD, **how)

    def counted_in(self) -> Unit:
        """Return the unit of the tuning. Raises UnknownRatesError where a model has no rates in it."""
        specs = self.engine.mentor.spec, self.engine.intern.spec
        unit = self.unit or default_unit(*specs)
        pair_rates(*specs, unit)
        return unit

    def check(self) -> None:
        """Raise UsageError, before anything is sent, for too few problems or a ladder without one of its ends."""
        ladder = self.plan.ladder
        if ladder[0].name != "none" or not ladder[-1].is_answer or len(ladder) < 3:
            raise UsageError(
                f"--effort {self.levels}: tuning compares with both models alone, so its levels begin with none, end "
                "with answer, and have one between"
            )
        fewest = MIN_PROBLEMS
        if self.aim.kind == "regret":
            fewest = max(2 * certify.fewest(self.aim.limit), MIN_PROBLEMS)
        if (count := len(self.problems)) < fewest:
            whole, held = count + len(self.held), self.datasets[0].get("holdout") if self.datasets else None
            apart = len(self.held) if isinstance(held, int) else math.ceil(fewest * len(self.held) / max(count, 1))
            needed = fewest + apart
            raise UsageError(
                f"{whole} problems are too few for the aim {self.aim}: with {len(self.held)} held out {count} are "
                f"left, and training needs at least {fewest}; about {needed} problems would do"
            )

    def estimate(self) -> dict[str, Any]:
        """Return what is still to be collected and its cost, at most and likely; no model is called.

        Raises UsageError where the likely cost exceeds what is left of the budget, with what would fit.
        """
        jobs = self.jobs()
        most = [job.estimate() for job in jobs]
        likely = [replace(job, plan=self._usual()).estimate()["at_most"] for job in jobs]
        paid = sum(spent(job.out) for job in jobs)
        found = {
            "problems": {"collected": len(self.problems), "held_out": len(self.held)},
            "missing": sum(one["problems"] for one in most),
            "calls": {role: sum(one["calls"][role] for one in most) for role in ("mentor", "intern")},
            "at_most": _sums([one["at_most"] for one in most]),
            "likely": _sums(likely),
            "device": self._device(_sums(likely), most),
            "paid_usd_bound": paid,
            "unit": self.counted_in(),
        }
        budget, asked = self.limits.usd, found["likely"]["usd"]
        if budget is not None and asked is not None and asked > budget - paid:
            whole = len(self.problems) + len(self.held)
            fits = math.floor(whole * max(budget - paid, 0) / asked)
            smaller = f"--limit {fits} would fit, or" if fits >= MIN_PROBLEMS else "it takes"
            raise UsageError(
                f"collecting {found['missing']} problems likely costs US$ {asked:.2f}, and --max-usd {budget:g} leaves "
                f"US$ {max(budget - paid, 0):.2f}; {smaller} --max-usd {math.ceil(100 * (asked + paid)) / 100:.2f}"
            )
        return found

    def _device(self, likely: Mapping[str, Any], most: Sequence[Mapping[str, Any]]) -> str | None:
        """Say how long the intern's tokens keep its device busy; None for one behind an API, or of unknown size."""
        spec = self.engine.intern.spec
        profile = spec.profile or assumed_profile(spec)
        if not spec.local or profile is None:
            return None
        own = rates(spec.model_copy(update={"profile": profile}), "seconds", "intern")
        assert own is not None
        bound = sum(one["at_most"]["intern_tokens"] for one in most)
        usual, longest = (own.cost(0, 0, tokens) / 60 for tokens in (likely["intern_tokens"], bound))
        return (
            f"The intern's tokens are likely {figure(usual, 'seconds')} minutes of device time, at most "
            f"{figure(longest, 'seconds')}"
            f"{' (an assumed speed; tandem profile measures it)' if profile.assumed else ''}."
        )

    @property
    def levels(self) -> str:
        return format_ladder(self.plan.ladder)

    def _usual(self) -> CollectionPlan:
        """Return the plan with usual lengths in place of caps."""
        mentor, intern = (USUAL_THINKING if spec.thinks or spec.reasoning else USUAL_ANSWER for spec in self._specs())
        ladder = [
            level.model_copy(update={"tokens": min(level.tokens, USUAL_NOTES)}) if level.tokens else level
            for level in self.plan.ladder
        ]
        update = {
            "ladder": tuple(ladder),
            "max_tokens": min(self.plan.max_tokens, intern),
            "mentor_max_tokens": min(self.plan.answer_cap, mentor),
        }
        return self.plan.model_copy(update=update)

    async def collect(self, progress: Report = lambda progress: None) -> str | None:
        """Collect what is missing; return why it stopped early, or None. The models must be ready.

        Raises what a collection raises; problems that failed are in its errors.jsonl, and are tried again next time.
        """
        began, before = time.monotonic(), CollectionProgress()
        for job in self.jobs():
            usd, seconds = self.limits.usd, self.limits.seconds
            others = sum(spent(other.out) for other in self.jobs() if other.out != job.out)
            left = None if seconds is None else seconds - (time.monotonic() - began)
            if seconds is not None and left is not None and left <= 0:
                return time_is_over(seconds)
            job.limits = Limits(None if usd is None else usd - others, left)
            job.out.mkdir(parents=True, exist_ok=True)
            with job.locked() as lock:
                todo = job.missing()
                if todo or job.is_new():
                    job.begin(todo)
                    await job.run(todo, lock, partial(_together, progress, before))
                    before = CollectionProgress.total([before, job.progress])
                job.write_tables(job.out / "table.jsonl.gz")
            if job.progress.stopped:
                return job.progress.stopped
        return None

    def train(self, say: Say = lambda line: None) -> tuple[Classifier | None, str]:
        """Return the classifier of what was collected, trained unless it is there, or why there is none."""
        folder, unit = self.out / COLLECTED, self.counted_in()
        key = hashlib.sha256((folder / "table.jsonl.gz").read_bytes())
        key.update(json.dumps([unit, str(self.aim), self.seed, self.plan.model_dump(mode="json")]).encode())
        before = self._read().get("trained", {})
        home = self.out / CLASSIFIER
        if before.get("key") == key.hexdigest():
            return (load_classifier(home, plain=False), "") if before["why"] is None else (None, before["why"])
        rows, manifest = read_collection(folder)
        self._enough(len(complete(rows, with_question(self.plan.ladder))))
        why = None
        made: Classifier | None = None
        try:
            kinds = ("logistic", "boosted") if len(self.problems) >= BOOSTED_FROM else ("logistic",)
            trained = train(
                rows,
                manifest,
                self._specs(),
                name=f"{manifest['mentor']}+{manifest['intern']}-{Path(str(self.data['name'])).stem}",
                command=self.command,
                aim=self.aim,
                unit=unit,
                kinds=kinds,
                seed=self.seed,
                say=say,
            )
            made = trained.classifier
            if made is None:
                why = " ".join(trained.report["alternatives"])
        except OneSidedError as error:
            why = str(error)
        if made is None:
            shutil.rmtree(home, ignore_errors=True)
        else:
            made.save(home)
        self._write({"trained": {"key": key.hexdigest(), "why": why}})
        return made, why or ""

    def _enough(self, count: int) -> None:
        if count < MIN_PROBLEMS:
            raise UsageError(
                f"{count} problems are complete, training needs at least {MIN_PROBLEMS}; errors.jsonl in "
                f"{self.out / COLLECTED} says what failed. The same command tries it again"
            )

    def evaluate(self, classifier: Classifier | None, why: str = "") -> dict[str, Any]:
        """Replay the hold-out, write the comparison and its page, and return the result, which is in tune.json too."""
        unit = self.counted_in()
        pair = Pair(*self._specs(), unit=unit)
        rows, _ = read_collection(self.out / HELD)
        ladder = with_question(self.plan.ladder)
        texts = {key_of(row): row for row in Folder(self.out / HELD, write=False).rows()}
        whole = complete([row | _texts(texts.get(key_of(row), {})) for row in rows], ladder)
        if not whole:
            raise UsageError(f"no problem of the hold-out is complete: see errors.jsonl in {self.out / HELD}")
        endings = _fixed(whole, self.plan.ladder)
        if classifier is not None:
            endings = self._tuned(classifier, whole, pair) | endings
        runs = self._compare(whole, endings, pair)
        mentor = runs[MENTOR_ONLY]
        free = self.engine.intern.spec.name if unit == "usd" and rates(pair.intern, "usd", "intern") is None else None
        outcomes: dict[str, HeldOutOutcome] = {}
        for name, run in runs.items():
            found = verdict(run, mentor, unit, level=LEVEL, name="Tandem" if name == OURS else name, free=free)
            assert found is not None  # both ended every problem of the hold-out
            outcomes[name] = HeldOutOutcome.of(run, found)
        tuning = self.paid()
        conclusion = conclude(outcomes, self.aim, tuning=tuning["cost"], why=why)
        result = {
            **conclusion.model_dump(mode="json"),
            "verdict": outcomes[OURS].verdict.model_dump(mode="json") if OURS in outcomes else None,
            "unit": unit,
            "aim": str(self.aim),
            "problems": {"collected": len(self.problems), "held_out": len(whole)},
            "strategies": {name: one.model_dump(mode="json") for name, one in outcomes.items()},
            "tuning": tuning,
            "files": self._files(classifier),
        }
        self._write({"result": result})
        return result

    def _tuned(self, classifier: Classifier, whole: Problems, pair: Pair) -> dict[str, dict[str, Ending]]:
        """Return how the points of the aim, and of the card's other aims, end the problems of the hold-out.

        Each problem by the point of its kind of task; an aim that decides as one before it is left out.
        """
        found: dict[str, dict[str, Ending]] = {}
        for aim in dict.fromkeys((str(self.aim), *classifier.card.points.get(pair.unit, {}))):
            chosen, ends = classifier.card.choose(pair.unit, aim), dict[str, Ending]()
            for kind in sorted({problem.task for problem in self.held}):
                ids = [problem.id for problem in self.held if problem.task == kind and problem.id in whole]
                if ids:
                    ends |= replay_point(classifier, chosen.of(kind), whole, ids, pair)
            if all(_ways(ends) != _ways(other) for other in found.values()):
                found[of_aim(aim) if found else OURS] = ends
        return found

    def paid(self) -> dict[str, Any]:
        """Return what the collections have cost: US$ as reported, in the worst case, and in the tuning's unit."""
        made = [call for job in self.jobs() for call in calls(job.out) if call["event"] not in ("open", "lost")]
        known = [call["usd"] for call in made if call.get("usd") is not None]
        usd = math.fsum(known) if known else None
        unit = self.counted_in()
        cost: float | None = usd or 0.0
        if unit != "usd":
            both = dict(zip(("mentor", "intern"), pair_rates(*self._specs(), unit), strict=True))
            cost = math.fsum(both[c["role"]].cost(c["prompt"], c["cached"], c["completion"]) for c in made)
        return {"usd": usd, "usd_bound": sum(spent(job.out) for job in self.jobs()), "cost": cost, "calls": len(made)}

    def _compare(
        self, whole: Problems, endings: Mapping[str, Mapping[str, Ending]], pair: Pair
    ) -> dict[str, RunOutcomes]:
        """Write each strategy's replayed run and the comparison over them; return the outcomes by strategy."""
        home, made = self.out / COMPARISON, self.out / f"{COMPARISON}.new"
        shutil.rmtree(made, ignore_errors=True)
        made.mkdir(parents=True)
        problems = [problem for problem in self.held if problem.id in whole]
        write_problems(made, problems)
        folders, parts, runs = folders_of(list(endings)), [], {}
        classifier = str(self.out / CLASSIFIER)
        for name, own in endings.items():
            tuned, options = name.partition(" ")[0] == OURS, SolveOptions(strategy=name)
            if tuned:
                aim = asked_aim(name) or str(self.aim)
                options = SolveOptions(strategy=OURS, classifier=classifier, unit=pair.unit, aim=aim)
            plan = self.engine.plan(options)
            manifest = describe_run(plan, self.data, problems, self._endpoints())
            match = plan.classifier_match
            with RunStore.create(made / folders[name], manifest | {"replayed": str(self.out / HELD)}) as store:
                for record in records(problems, whole, own, pair, name):
                    store.append(record)
                store.finish(summarise(store.records(), match) | {"stopped": None})
            runs[name] = outcomes_of(store.records())
            parts.append(Part(name, folders[name]))
        report(made, parts, unit=pair.unit, level=LEVEL)  # as its own verdict
        write_comparison(made, read_comparison(made))
        shutil.rmtree(home, ignore_errors=True)
        made.rename(home)
        return runs

    def _files(self, classifier: Classifier | None) -> dict[str, str | None]:
        return {
            "classifier": str(self.out / CLASSIFIER) if classifier else None,
            "collection": str(self.out / COLLECTED),
            "holdout": str(self.out / HELD),
            "comparison": str(self.out / COMPARISON),
            "page": str(self.out / COMPARISON / "report.html"),
        }

    def _specs(self) -> tuple[ModelSpec, ModelSpec]:
        return self.engine.mentor.spec, self.engine.intern.spec

    def _endpoints(self) -> dict[str, str | None]:
        return {str(role): endpoint for role, endpoint in self.endpoints.items()}

    def _read(self) -> dict[str, Any]:
        path = self.out / TUNE
        return read_stamped(path, FORMAT) if path.exists() else {}

    def _write(self, more: Mapping[str, Any]) -> None:
        kept = {key: value for key, value in self._read().items() if key not in ("format", "version")}
        how = {"pair": [spec.name for spec in self._specs()], "ladder": format_ladder(self.plan.ladder)}
        found = stamped(kept | how | {"command": self.command} | dict(more), FORMAT)
        write_whole(self.out / TUNE, json.dumps(found, indent=1, ensure_ascii=False) + "\n")


def _ways(endings: Mapping[str, Ending]) -> dict[str, tuple[tuple[str, ...], str]]:
    return {problem: (ending.drafted, ending.level) for problem, ending in endings.items()}


def _fixed(whole: Mapping[str, Any], ladder: Ladder) -> dict[str, dict[str, Ending]]:
    """Return how every problem ends at each level alone, by its strategy's name."""
    found = {}
    for level in ladder:
        name = anchor_name(level)
        name = f"{name}={level.tokens}" if name.startswith("fixed:") else name
        found[name] = {problem: Ending((), level.name) for problem in whole}
    return found


def _texts(row: Mapping[str, Any]) -> dict[str, Any]:
    return {name: row[name] for name in ("text", "insight") if name in row}


def _together(report: Report, before: CollectionProgress, now: CollectionProgress) -> None:
    report(CollectionProgress.total([before, now]))


def _sums(parts: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return sums by name; None where a part is not known, but for parts that have nothing to do."""
    found: dict[str, Any] = {}
    for name in parts[0]:
        known = [part[name] for part in parts if part[name] is not None]
        found[name] = sum(known) if known else None
    return found
