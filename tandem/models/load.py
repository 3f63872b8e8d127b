"""From a name to a model: the catalog, a folder, a hub id, an endpoint, the fake, or a backend that a package adds."""

from __future__ import annotations

import functools
import ipaddress
import logging
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from tandem.config import Backend, Serving
from tandem.errors import UsageError, nearest
from tandem.ledger import Role
from tandem.models.base import Model
from tandem.models.catalog import CatalogEntry, load_catalog, lookup, spec_of
from tandem.models.weights import folder_of, pull, pulled, read_manifest
from tandem.registry import Registry
from tandem.spec import ModelSpec

if TYPE_CHECKING:
    from tandem.models.vllm.served import Placement

_BUILT_IN = {
    "fake": "tandem.models.fake:FakeModel",
    "openai": "tandem.models.openai:OpenAIModel",
    "pooled": "tandem.models.vllm.model:PooledModel",
    "transformers": "tandem.models.transformers:TransformersModel",
    "vllm": "tandem.models.vllm.served:ServedModel",
}
BACKENDS = Registry("backend", "backends", _BUILT_IN)
_FAKE_SIZES: dict[Role, float] = {"mentor": 7e9, "intern": 1e9}

_log = logging.getLogger(__name__)


def load_model(
    name: str,
    *,
    role: Role,
    endpoint: str | None = None,
    parameters: float | None = None,
    timeout: float | None = None,
    backend: Backend = "transformers",
    several: bool = True,
    placement: Placement | None = None,
    serving: Serving | None = None,
    **options: Any,
) -> Model:
    """Return the model behind `name`, without downloading or connecting to anything yet.

    ``fake`` or ``fake:script.json``; with `endpoint` (an OpenAI-compatible base URL, or several with commas between
    them, which serve the same) any name that it serves; else a catalog name, a Transformers folder, or a hub id
    (``owner/name``). ``backend:what`` calls the backend of that name which a package adds (entry point
    ``tandem.backends``) with the spec and `what`. Missing weights are pulled when the model is first used.

    `parameters` is a size that the user assumes, for the cost. `timeout` is how many seconds an endpoint may send
    nothing. `backend` is for weights: in this process, or on vLLM replicas of their own, by `placement` and `serving`;
    ``auto`` is vllm where a pool is up, or that is installed and `several` problems are solved at once: one is sooner
    answered in this process than vLLM is up. `options` go to the backend. Raises UsageError for a name that leads
    nowhere.
    """
    if not name.strip():
        raise UsageError(f"the {role} has no name")
    kind, colon, what = name.partition(":")
    if kind == "fake":
        if endpoint:
            raise UsageError("the fake model has no endpoint")
        return _made("fake", "from_name", name, parameters=parameters or _FAKE_SIZES[role])
    if colon and not endpoint and kind in BACKENDS and kind not in _BUILT_IN:
        return _made(kind, None, _assumed(ModelSpec(name=name, backend=kind), parameters), what, **options)
    entry = _entry(name)
    over_http = {"role": role} | ({} if timeout is None else {"timeout": timeout}) | options
    if endpoint or (entry and entry.endpoint):
        spec = spec_of(entry) if entry else ModelSpec(name=name)
        return _at_endpoint(name, entry, endpoint, _assumed(spec, parameters), over_http)
    path, spec = _weights(name, entry)
    standing = [] if backend == "transformers" else _standing(spec.name)
    if backend == "auto":
        from tandem.models.vllm.command import has_vllm

        backend = "vllm" if standing or (several and has_vllm()) else "transformers"
    if backend == "transformers":
        spec = spec.model_copy(update={"backend": "transformers"})
        return _made("transformers", None, _assumed(spec, parameters), path, **options)
    spec = _assumed(spec.model_copy(update={"backend": "vllm"}), parameters)
    if standing:
        return _made("pooled", None, spec, standing, served_name=spec.name, **over_http)
    return _made("vllm", None, spec, path, placement=placement, serving=serving, **over_http)


def _at_endpoint(
    name: str, entry: CatalogEntry | None, endpoint: str | None, spec: ModelSpec, options: dict[str, Any]
) -> Model:
    urls = [part.strip() for part in endpoint.split(",")] if endpoint else []
    if not all(urls):
        raise UsageError(f"an endpoint is missing in '{endpoint}'")
    local = spec.local and bool(urls) and all(map(_own, urls))
    spec = spec.model_copy(update={"backend": "openai", "local": local})
    options = {
        # At its own service; a name with a slash is a gateway's.
        "served_name": name if endpoint or entry is None else entry.name if "/" in name else name.lower(),
        "api_key_env": entry.api_key_env if entry and not endpoint else None,
        "tokenizer_path": folder_of(entry) / "tokenizer.json" if entry and entry.local and pulled(entry) else None,
    } | options
    if len(urls) > 1:
        return _made("pooled", None, spec, urls, **options)
    return _made("openai", None, spec, base_url=urls[0] if urls else entry and entry.endpoint, **options)


def _standing(name: str) -> list[str]:
    from tandem.models.vllm.state import load_all

    pools = [pool for pool in load_all()[0] if pool.kind == "standing" and pool.model == name]
    return [replica.url for replica in pools[0].replicas] if pools else []


def _made(backend: str, maker: str | None, *args: Any, **options: Any) -> Model:
    kind = BACKENDS.get(backend)
    model: Model = (getattr(kind, maker) if maker else kind)(*args, **options)
    return model


def _assumed(spec: ModelSpec, parameters: float | None) -> ModelSpec:
    """Return `spec` with the size that the user gave, which then stands for every size in it."""
    if parameters is None:
        return spec
    return spec.model_copy(update={"parameters": parameters, "active_parameters": None, "assumed_parameters": True})


def _entry(name: str) -> CatalogEntry | None:
    """Return the catalog's entry for a name, or for the folder at a path: by its manifest, else by its own name."""
    entry = lookup(name)
    if entry is None and (folder := Path(name).expanduser()).is_dir():
        manifest = read_manifest(folder) or {}
        entry = lookup(str(manifest.get("name", folder.resolve().name)))
    return entry


def _own(endpoint: str) -> bool:
    """Whether an endpoint is likely the user's own hardware: this machine, a private address, a bare host name."""
    host = urlsplit(endpoint).hostname or ""
    try:
        return ipaddress.ip_address(host).is_private
    except ValueError:
        return "." not in host or host.endswith((".local", ".internal", ".lan"))


def _weights(name: str, entry: CatalogEntry | None) -> tuple[str | Path | Callable[[], Path], ModelSpec]:
    folder = Path(name).expanduser()
    if folder.is_dir() and ("/" in name or lookup(name) is None):
        if not (folder / "config.json").is_file():
            raise UsageError(f"{folder} is no Transformers folder (no config.json in it)")
        return folder, spec_of(entry) if entry else ModelSpec(name=folder.resolve().name)
    if entry:
        revision = entry.gguf.sha256[:12] if entry.gguf else None
        return functools.partial(_pulled, entry), spec_of(entry).model_copy(update={"revision": revision})
    if name.count("/") == 1 and not name.startswith((".", "/", "~")):
        return name, ModelSpec(name=name)
    if "/" in name:
        raise UsageError(f"there is no model folder at '{name}'")
    raise nearest("model", name, ["fake", *(known.name for known in load_catalog())])


def _pulled(entry: CatalogEntry) -> Path:
    if not pulled(entry):
        _log.warning("pulling %s (%.1f GB) into %s", entry.name, entry.fetch_bytes / 1e9, folder_of(entry))
    return pull(entry)
