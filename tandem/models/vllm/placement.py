"""Where each replica runs: which GPUs and what share of their memory, or which cores. Arithmetic only."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import chain

from tandem.errors import UsageError
from tandem.models.vllm.machine import GIB, Gpu, Machine

SHARE = 0.90  # of a GPU's memory at most, over all replicas on it


@dataclass(frozen=True, slots=True)
class Place:
    """One replica's GPUs (tensor parallel over them) with its share of each GPU's memory, or its cores."""

    index: int
    gpus: tuple[int, ...] = ()
    cores: tuple[int, ...] = ()
    memory: float | None = None


@dataclass(frozen=True, slots=True)
class Size:
    """Bytes that a model needs at the least: `weights` (0: not known), and `cache` for keys and values."""

    weights: int = 0
    cache: int = GIB

    def need(self, tensor_parallel: int) -> int:
        return (self.weights + self.cache) // tensor_parallel


@dataclass(frozen=True, slots=True)
class ResourceRequest:
    """A user's request for one role. `gpus` None: all available; `replicas` None: as many as fit (CPU: one)."""

    role: str
    gpus: tuple[int, ...] | None = None
    tensor_parallel: int = 1
    replicas: int | None = None
    size: Size = field(default_factory=Size)


def place(request: ResourceRequest, machine: Machine) -> list[Place]:
    """Return where the replicas of one model run: on GPUs where there are any, else on cores.

    Raises UsageError if the machine does not have the requested resources.
    """
    named = _named(request, machine)
    if not machine.gpus:
        return _on_cores([request], machine)[0]
    return _on_gpus([(request, named or _roomy(request, machine))], machine)[0]


def place_pair(mentor: ResourceRequest, intern: ResourceRequest, machine: Machine) -> tuple[list[Place], list[Place]]:
    """Return where mentor and intern run on one machine.

    A role that names no GPUs takes those that the other leaves; where neither names any, the mentor takes the first
    (one replica) and the intern the rest. Too few for both: they share, and so do roles that name the same GPUs;
    what is left of a GPU beyond what both need is divided evenly, so that the larger model gets more. Roles that
    share a GPU must be started one after the other, since vLLM measures what is free while it starts.
    On the CPU the roles have cores of their own. Raises UsageError as `place` does.
    """
    named = _named(mentor, machine), _named(intern, machine)
    if not machine.gpus:
        first, second = _on_cores([mentor, intern], machine)
    else:
        mentors, interns = _divided(mentor, intern, *named, [gpu.index for gpu in machine.gpus])
        first, second = _on_gpus([(mentor, mentors), (intern, interns)], machine)
    return first, second


def _named(request: ResourceRequest, machine: Machine) -> tuple[int, ...] | None:
    """Return the GPUs that the user names, each of which is there, once; None where he names none."""
    if request.tensor_parallel < 1 or (request.replicas is not None and request.replicas < 1):
        raise UsageError(f"the {request.role} needs at least one replica, on at least one GPU or core")
    if request.gpus is None:
        return None
    there = [gpu.index for gpu in machine.gpus]
    for position, gpu in enumerate(request.gpus):
        if gpu not in there:
            has = f"it can have {_list(there)} ({machine.no_gpu})" if there else machine.no_gpu
            raise UsageError(f"there is no GPU {gpu} for the {request.role}: {has}")
        if gpu in request.gpus[:position]:
            raise UsageError(f"GPU {gpu} is named twice for the {request.role}")
    if not request.gpus:
        raise UsageError(f"no GPU is named for the {request.role}")
    if len(request.gpus) >= request.tensor_parallel and len(request.gpus) % request.tensor_parallel:
        raise UsageError(
            f"the {request.role}'s {len(request.gpus)} GPUs do not divide into groups of {request.tensor_parallel} "
            "(tensor parallel)"
        )
    return request.gpus


def _roomy(request: ResourceRequest, machine: Machine) -> tuple[int, ...]:
    """Return the GPUs with enough free memory; all of them, for the error to name one, where those are too few."""
    room = [
        g.index for g in machine.gpus if g.total is None or _budget(g) >= request.size.need(request.tensor_parallel)
    ]
    few = len(room) < request.tensor_parallel * (request.replicas or 1)
    return tuple(gpu.index for gpu in machine.gpus) if few else tuple(room)


def _divided(
    mentor: ResourceRequest,
    intern: ResourceRequest,
    mentors: tuple[int, ...] | None,
    interns: tuple[int, ...] | None,
    gpus: list[int],
) -> tuple[Sequence[int], Sequence[int]]:
    if mentors is None and interns is None:
        cut = _least(mentor)
        return (gpus[:cut], gpus[cut:]) if len(gpus) - cut >= _least(intern) else (gpus, gpus)
    if mentors is None:
        rest = [gpu for gpu in gpus if gpu not in (interns or ())]
        mentors = tuple(rest) if len(rest) >= _least(mentor) else interns
    if interns is None:
        rest = [gpu for gpu in gpus if gpu not in (mentors or ())]
        interns = tuple(rest) if len(rest) >= _least(intern) else mentors
    return mentors or (), interns or ()


def _least(request: ResourceRequest) -> int:
    return request.tensor_parallel * (request.replicas or 1)


def _on_gpus(wanted: list[tuple[ResourceRequest, Sequence[int]]], machine: Machine) -> list[list[Place]]:
    groups = [_groups(request, gpus) for request, gpus in wanted]
    shares: list[dict[int, float | None]] = [{} for _ in wanted]
    for gpu in machine.gpus:
        here = [role for role, sets in enumerate(groups) if gpu.index in chain(*sets)]
        for role, share in zip(here, _shares(gpu, [wanted[role][0] for role in here]), strict=True):
            shares[role][gpu.index] = share
    return [
        [Place(index, gpus=group, memory=_smallest(share[gpu] for gpu in group)) for index, group in enumerate(sets)]
        for sets, share in zip(groups, shares, strict=True)
    ]


def _groups(request: ResourceRequest, gpus: Sequence[int]) -> list[tuple[int, ...]]:
    """Return the GPUs of each replica; GPUs that fill no group stay free."""
    width = request.tensor_parallel
    if len(gpus) < width:
        raise UsageError(f"tensor parallel {width} needs {width} GPUs for the {request.role}; it has {_list(gpus)}")
    groups = [tuple(gpus[start : start + width]) for start in range(0, len(gpus) - width + 1, width)]
    if request.replicas is not None and request.replicas > len(groups):
        needed = request.replicas * width
        raise UsageError(f"{request.replicas} replicas of the {request.role} need {needed} GPUs; it has {_list(gpus)}")
    return groups[: request.replicas]


def _budget(gpu: Gpu) -> int:
    total = gpu.total or 0
    return min(int(SHARE * total), total if gpu.free is None else gpu.free)


def _shares(gpu: Gpu, requests: list[ResourceRequest]) -> list[float | None]:
    """Return the share of the GPU's memory for each of the models on it; together at most SHARE, and what is free."""
    needs = [request.size.need(request.tensor_parallel) for request in requests]
    if gpu.total is None:
        return [_down(SHARE * need / sum(needs)) if len(requests) > 1 else None for need in needs]
    budget = _budget(gpu)
    if sum(needs) > budget:
        roles = " and ".join(f"the {w.role} ({_gib(n)} GiB)" for w, n in zip(requests, needs, strict=True))
        free = f"{_gib(gpu.total if gpu.free is None else gpu.free)} of {_gib(gpu.total)} GiB are free"
        raise UsageError(
            f"GPU {gpu.index} has too little memory for {roles}: {_gib(sum(needs))} GiB needed, {free}, "
            f"{_gib(budget)} of them to use; spread it over more GPUs (tensor parallel), or take a shorter context"
        )
    spare = (budget - sum(needs)) / max(1, len(needs))
    return [_down((need + spare) / gpu.total) for need in needs]


def _on_cores(requests: list[ResourceRequest], machine: Machine) -> list[list[Place]]:
    """Divide the cores evenly over the replicas; two roles with one replica each may share a single core."""
    counts = [request.replicas or 1 for request in requests]
    sets, cores = sum(counts), machine.cores
    parts: list[tuple[int, ...]]
    if len(cores) == 1 and all(count == 1 for count in counts):
        parts = [cores] * sets
    elif sets > len(cores):
        raise UsageError(f"{sets} replicas need {sets} cores; this process may use {len(cores)}")
    else:
        parts = [cores[len(cores) * i // sets : len(cores) * (i + 1) // sets] for i in range(sets)]
    for request in requests:
        if request.tensor_parallel > min(map(len, parts)):
            raise UsageError(
                f"tensor parallel {request.tensor_parallel} needs as many cores for each replica of the "
                f"{request.role}; it has {min(map(len, parts))}"
            )
    needs = [count * request.size.need(1) for count, request in zip(counts, requests, strict=True)]
    if machine.ram is not None and sum(needs) > machine.ram:
        roles = " and ".join(f"the {w.role} ({_gib(n)} GiB)" for w, n in zip(requests, needs, strict=True))
        raise UsageError(
            f"there is too little memory for {roles}: {_gib(sum(needs))} GiB needed, {_gib(machine.ram)} free; "
            "take fewer replicas, a shorter context or a smaller model"
        )
    places, ahead = [], iter(parts)
    for count in counts:
        places.append([Place(index, cores=next(ahead)) for index in range(count)])
    return places


def _down(share: float) -> float:
    """Round down to a thousandth; what lies within a millionth below one counts as that one (0.9 * n is inexact)."""
    return math.floor(share * 1000 + 1e-3) / 1000


def _smallest(shares: Iterable[float | None]) -> float | None:
    """Return the share that every GPU of a replica can give: vLLM takes the same of each."""
    return min((share for share in shares if share is not None), default=None)


def _gib(size: int) -> str:
    return f"{size / GIB:.1f}"


def _list(gpus: Sequence[int]) -> str:
    return ("GPU " if len(gpus) == 1 else "GPUs ") + ", ".join(map(str, gpus)) if gpus else "none"
