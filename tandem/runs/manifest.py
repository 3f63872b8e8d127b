"""What makes two runs the same run: the differences between manifests, and a digest of the prompts."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple, get_args
from urllib.parse import urlsplit

from tandem.insight import answer_messages, continue_messages, intern_view, mentor_messages, opening
from tandem.plan import SolvePlan
from tandem.spec import Continuation, ModelSpec
from tandem.storage.formats import stamped
from tandem.types import Message, Problem, TaskKind

_FIRST = ("strategy", "mentor.name", "intern.name", "dataset", "ladder", "classifier", "settings", "prompts_sha256")
_DIGEST = re.compile(r"[0-9a-f]{64}")
_PRICED_BY = ("prices", "profile", "usd_per_device_hour")  # what a run may be resumed with in another state
_LONGEST = 48
_SHOWN = 3
# What runs that are compared must share; everything else in a manifest is the method's own, such as its ladder, its
# predictor and its way of asking. Of the settings, a method has those that say how it decides.
_SHARED = ("mentor", "intern", "dataset", "prompts_sha256", "settings")
_OF_A_METHOD = tuple(
    f"settings.{name}." for name in ("effort", "pace", "draft_tokens", "classifier", "intern_logprobs")
)


class ManifestDifference(NamedTuple):
    """One value that differs: its dotted path, the old value (None: absent) and the new one."""

    path: str
    before: Any
    after: Any

    def __str__(self) -> str:
        return f"{self.path} ({_short(self.before)}, now {_short(self.after)})"


def describe_run(
    plan: SolvePlan, data: Mapping[str, Any], problems: Sequence[Problem], endpoints: Mapping[str, str | None]
) -> dict[str, Any]:
    """Return run.json: `run` has what a resumed run must share, the rest is informational. No secrets."""
    described = plan.describe()
    described["classifier"] = plan.card.id if plan.card else None  # known once the models are loaded
    costs = {name: {role: described[role].pop(name) for role in ("mentor", "intern")} for name in _PRICED_BY}
    dataset = {**data, "problems": len(problems), "problems_sha256": problems_digest(problems)}
    found = {
        "run": described | {"dataset": dataset, "prompts_sha256": prompts_digest()},
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "synthetic": plan.mentor.spec.synthetic or plan.intern.spec.synthetic,
        "endpoints": {role: _address(endpoint) for role, endpoint in endpoints.items()},
        "advice": {role: _advice(plan.model(role).spec) for role in ("mentor", "intern")},
        **costs,
    }
    return stamped(found)


def _advice(spec: ModelSpec) -> dict[str, Any]:
    """Return what a model's makers advise, which its settings are where the user said nothing."""
    sampling = spec.sampling and spec.sampling.model_dump(include={"temperature", "top_p"})
    return {"thinks": spec.thinks, "sampling": sampling, "max_tokens": spec.max_tokens}


def specs_of(manifest: Mapping[str, Any]) -> tuple[ModelSpec, ModelSpec] | None:
    """Return a run's mentor and intern, with their prices, from its run.json; None for one that has no such models."""
    found = []
    for role in ("mentor", "intern"):
        try:
            own = dict(manifest["run"][role]) | {name: manifest.get(name, {}).get(role) for name in _PRICED_BY}
            found.append(ModelSpec.model_validate({k: v for k, v in own.items() if k in ModelSpec.model_fields}))
        except (ValueError, KeyError, TypeError, AttributeError):
            return None
    return found[0], found[1]


def _address(endpoint: str | None) -> str | None:
    """Return an endpoint's address (or several) without user, password and query, safe to store."""
    if endpoint is None:
        return None
    split = [urlsplit(part.strip()) for part in endpoint.split(",")]
    bare = [parts._replace(netloc=parts.netloc.rpartition("@")[2], query="", fragment="") for parts in split]
    return ",".join(parts.geturl() for parts in bare)


# What a run of an earlier version had where nothing was said: it had no advice of the models' makers.
_OLDER = {"temperature": 0.0, "top_p": 1.0, "mentor_max_tokens": 4096, "intern_max_tokens": 4096}


def older_defaults(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a run was begun with where today's defaults may be others, by the options' names.

    The default unit follows prices and speed profiles, which may have come since.
    """
    point = manifest["run"].get("point")
    begun = {name: point[name] for name in ("unit", "aim") if point.get(name)} if isinstance(point, Mapping) else {}
    return begun | ({} if "advice" in manifest else _OLDER)


def differences(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[ManifestDifference]:
    """Return the differences between two manifests, or parts of them; the most important first, digests last."""
    found = _differences(before, after, "")
    return sorted(found, key=lambda one: (_rank(one.path), one.path.endswith("_sha256"), one.path))


def name_differences(found: list[ManifestDifference]) -> str:
    more = f" and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
    return ", ".join(map(str, found[:_SHOWN])) + more


def incomparable(one: Mapping[str, Any], other: Mapping[str, Any]) -> str | None:
    """Return how two runs' manifests differ beside their methods, in words; None where the runs can be compared."""
    found = [
        d for d in differences(one, other) if d.path.startswith(_SHARED) and not f"{d.path}.".startswith(_OF_A_METHOD)
    ]
    return f"they differ in {name_differences(found)}" if found else None


def problems_digest(problems: Iterable[Problem]) -> str:
    """Return the SHA-256 of ids and questions, in order: ids made of line numbers do not change when a file is edited.

    References and tests are left out because they may be corrected: `tandem grade` grades finished runs again.
    """
    whole = hashlib.sha256()
    for problem in problems:
        whole.update(problem.model_dump_json(include={"id", "messages"}).encode() + b"\n")
    return whole.hexdigest()


def prompts_digest() -> str:
    """Return the SHA-256 of the prompts of fixed sample problems of every kind, in every mode.

    Another digest means that prompts have changed, and that answers should not be mixed.
    """
    asked: list[Any] = [opening("gpra", Continuation.NATIVE)]
    for task in get_args(TaskKind):
        problem = Problem(id="sample", messages=(Message(role="user", content="A sample."),), task=task)
        asked.append(continue_messages(problem, "Goal: a note."))
        asked.append(answer_messages(problem))
        for mode in ("gpra", "prefix"):
            asked += [mentor_messages(problem, mode), *intern_view(problem, "Goal: a note.", mode)]
    text = json.dumps(asked, default=lambda message: message.model_dump(), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _differences(before: Any, after: Any, path: str) -> list[ManifestDifference]:
    if isinstance(before, Mapping) and isinstance(after, Mapping):
        found = []
        for key in before.keys() | after.keys():
            found += _differences(before.get(key), after.get(key), f"{path}.{key}" if path else str(key))
        return found
    return [] if before == after else [ManifestDifference(path, before, after)]


def _rank(path: str) -> int:
    ranks = (rank for rank, first in enumerate(_FIRST) if path == first or path.startswith(first + "."))
    return next(ranks, len(_FIRST))


def _short(value: Any) -> str:
    if isinstance(value, str) and _DIGEST.fullmatch(value):
        return f"{value[:12]}…"
    text = "absent" if value is None else repr(value)
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 15]}…{text[-12:]}"
