"""Loading a causal language model with Transformers, and what its configuration says about it."""

from __future__ import annotations

import functools
import re
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tandem.errors import EndpointError, MissingPackageError, TandemError, UsageError
from tandem.models.logprobs import FLOOR, PLACES
from tandem.models.transformers.batching import SampledToken
from tandem.models.transformers.kv import use_grouped_attention
from tandem.models.vllm.machine import computes_bfloat16, read_cpuinfo
from tandem.spec import Architecture, Continuation, ModelSpec
from tandem.thinking import is_open
from tandem.types import ScoredToken

_ATTENTION = {"full_attention", "sliding_attention"}  # layer types with a key-value cache

_SPACE = "\u2581"  # how SentencePiece writes one
_HALF = "\ufffd"  # of a character
_LOADING = threading.Lock()  # Transformers' imports and its default number type are no matter for two threads at once


@dataclass(frozen=True)
class Loaded:
    """A model on its device, ready to write. `ends` are the token ids that end an answer."""

    model: Any
    tokenizer: Any
    ends: frozenset[int]
    spec: ModelSpec

    def text(self, ids: list[int]) -> str:
        text: str = self.tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        return text

    def whole_text(self, ids: list[int]) -> str:
        """Return the text of tokens, special ones too."""
        text: str = self.tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False)
        return text

    def score(self, choice: SampledToken) -> ScoredToken:
        """Return a token that was drawn with its statistics, and its alternatives, as text."""
        top = tuple(self.scored(token, logprob) for token, logprob in choice.likeliest)
        return self.scored(choice.token, choice.stat.logprob if choice.stat else 0.0, top)

    def scored(self, token: int, logprob: float | None, top: tuple[ScoredToken, ...] = ()) -> ScoredToken:
        """Return one token as text, special ones too, with its bytes where they are not a whole character."""
        text = self.whole_text([token])
        piece = self.tokenizer.convert_ids_to_tokens(token) or ""
        if piece.startswith(_SPACE) and not text.startswith(" "):
            text = f" {text}"  # decoders drop the space at a text's beginning
        raw = _bytes(piece) if _HALF in text else None
        return ScoredToken(text, None if logprob is None else round(max(logprob, FLOOR), PLACES), top, raw)


@functools.cache
def _byte_of() -> dict[str, int]:
    """The letters that byte-level tokenizers write bytes as: themselves where printable, the others from 256 on."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(256 + n): byte for n, byte in enumerate(others)}


def _bytes(piece: str) -> bytes | None:
    """Return the bytes of a token that is a part of a character, from the tokenizer's own name for it."""
    if found := re.fullmatch(r"<0x([0-9A-Fa-f]{2})>", piece):
        return bytes([int(found[1], 16)])
    letters = _byte_of()
    return bytes(letters[letter] for letter in piece) if piece and all(each in letters for each in piece) else None


def load(spec: ModelSpec, path: str, *, device: str | None, dtype: str) -> Loaded:
    """Load tokenizer and weights from a Transformers folder or a hub id; return them with the completed spec.

    Raises MissingPackageError without the `local` extra, UsageError for an unknown device or dtype, and EndpointError
    for a model that cannot be loaded or batched.
    """
    with _LOADING:
        try:
            from transformers import AutoModelForCausalLM, AutoTokenizer
            from transformers.utils import logging as transformers_logging

            target = _device(device)
        except ModuleNotFoundError:
            raise MissingPackageError("in-process models", "local") from None
        transformers_logging.disable_progress_bar()  # of loading weights, which is quick; downloads show their own
        number_type = _dtype(dtype, target)
        folder = Path(path).expanduser()
        if not folder.is_dir() and (folder.is_absolute() or path.startswith(".")):
            raise EndpointError(f"there is no model folder at '{path}'")
        source = str(folder) if folder.is_dir() else path
        revision = {} if folder.is_dir() or spec.revision is None else {"revision": spec.revision}
        try:
            tokenizer = AutoTokenizer.from_pretrained(source, **revision)
            model = AutoModelForCausalLM.from_pretrained(source, dtype=number_type, **revision).to(target).eval()
        except (OSError, ValueError, KeyError) as error:
            raise EndpointError(f"'{path}' cannot be loaded: {first_line(error)}") from error
    config = model.config.get_text_config()
    others = set(getattr(config, "layer_types", None) or ()) - _ATTENTION
    if others or getattr(model, "_is_stateful", False):
        kinds = ", ".join(sorted(others)) or "recurrent state"
        raise EndpointError(f"'{path}' has layers that cannot be batched in process ({kinds}); serve it with vLLM")
    use_grouped_attention(model)
    tokenizer("")  # takes padding settings off once, which is not safe while another thread decodes
    opens = _opens_thinking(tokenizer)
    known = {"opens_thinking": opens, "thinks": spec.thinks or opens}
    return Loaded(model, tokenizer, _ends(model, tokenizer), complete_spec(spec, model).model_copy(update=known))


def complete_spec(spec: ModelSpec, model: Any) -> ModelSpec:
    """Return `spec` with its missing fields: sizes, vocabulary, context, architecture, capabilities.

    Active parameters are what a token passes through: without an input embedding that is not also the output matrix,
    and with as many of the experts as a token is sent to.
    """
    config = model.config.get_text_config()
    heads = config.num_attention_heads
    total = sum(p.numel() for p in model.parameters())
    entry, exit_ = model.get_input_embeddings().weight, model.get_output_embeddings().weight
    experts = sum(p.numel() for name, p in model.named_parameters() if ".experts." in name)
    chosen = getattr(config, "num_experts_per_tok", None)
    among = getattr(config, "num_local_experts", None) or getattr(config, "num_experts", None)
    idle = experts * (1 - chosen / among) if chosen and among else 0
    found: dict[str, Any] = {
        "vocabulary": config.vocab_size,
        "context": getattr(config, "max_position_embeddings", None),
        "parameters": float(total),
        "active_parameters": float(total - idle - (0 if entry is exit_ else entry.numel())),
        "architecture": Architecture(
            layers=config.num_hidden_layers,
            attention_width=heads * (getattr(config, "head_dim", None) or config.hidden_size // heads),
        ),
        "continuation": Continuation.NATIVE,
    }
    known = spec.model_dump(include=set(found), exclude_none=True)
    update = {name: value for name, value in found.items() if name not in known}
    return spec.model_copy(update=update | {"logprobs": True, "logprobs_mode": "raw"})


def _opens_thinking(tokenizer: Any) -> bool:
    """Whether the chat template begins an answer within a thought."""
    if not tokenizer.chat_template:
        return False
    asked = [{"role": "user", "content": "Hello"}]
    try:
        return is_open(str(tokenizer.apply_chat_template(asked, add_generation_prompt=True, tokenize=False)))
    except Exception:  # the template is the model's own program; what it refuses is said of a problem's own messages
        return False


def first_line(error: BaseException) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)


def failure(error: BaseException, name: str, running: int) -> TandemError:
    """Return the user's error for `error`, raised with `running` requests in the batch (0: while loading)."""
    if isinstance(error, TandemError):
        return error
    text = str(error).lower()
    if isinstance(error, MemoryError) or "out of memory" in text or "can't allocate memory" in text:
        when = f"with {running} requests at once; allow fewer (max_batch)" if running else "while it was loaded"
        return EndpointError(f"{name}: out of memory {when}, or take a smaller model")
    return EndpointError(f"{name}: {type(error).__name__}: {first_line(error)}")


def _device(name: str | None) -> Any:
    import torch

    if name is None:
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        return torch.device(name)
    except RuntimeError:
        raise UsageError(f"unknown device '{name}'; use cpu, cuda, cuda:1, mps") from None


def _dtype(name: str, device: Any) -> Any:
    import torch

    if name == "auto":
        if device.type == "mps":
            return torch.float16
        if device.type == "cuda":
            return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16
        able = torch.backends.mkldnn.is_available() and torch.ops.mkldnn._is_mkldnn_bf16_supported()
        # oneDNN takes AVX-512 without instructions for bfloat16 too, where it is slower than float32.
        return torch.bfloat16 if able and computes_bfloat16(read_cpuinfo()) else torch.float32
    if name not in ("float32", "bfloat16", "float16"):
        raise UsageError(f"unknown dtype '{name}'; use auto, float32, bfloat16, float16")
    return getattr(torch, name)


def _ends(model: Any, tokenizer: Any) -> frozenset[int]:
    ends: set[int] = set()
    for ids in (model.generation_config.eos_token_id, tokenizer.eos_token_id):
        if ids is not None:
            ends.update(ids if isinstance(ids, list) else [ids])
    return frozenset(ends)
