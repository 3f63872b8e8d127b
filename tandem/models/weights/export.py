"""GGUF to a Transformers folder in bfloat16, which vLLM and Transformers load alike; run in a process of its own.

``python -m tandem.models.weights.export SOURCE.gguf FOLDER [--tied]``. Configuration and tokenizer come from the GGUF
reader of Transformers; what it leaves wrong is put right: tied embeddings, end-of-sequence ids, normalizer and pre-
tokenizer. Transformers could load the weights too, but needs three times their size in memory for it.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

from tandem.errors import MissingPackageError, TandemError
from tandem.models.weights.gguf_tensors import ARCHITECTURES, write_tensors

# Whatever the GGUF calls the end of the sequence, a chat turn of these families ends with the first of them.
_TURN_ENDS = ("<|im_end|>", "<|endoftext|>")


def export(gguf: Path, folder: Path, *, tied: bool) -> None:
    """Write the model in `gguf` to `folder`, in a child process so that its memory is returned.

    Raises MissingPackageError without the `local` extra, and TandemError with the child's last line if it fails.
    """
    from importlib.util import find_spec

    if any(find_spec(package) is None for package in ("torch", "transformers", "gguf")):
        raise MissingPackageError("turning a GGUF file into a model folder", "local")
    command = [
        sys.executable,
        "-m",
        __name__,
        str(gguf),
        str(folder),
        *(["--tied"] if tied else []),
    ]
    environment = os.environ | {
        "HF_HUB_OFFLINE": "1",
        "TRANSFORMERS_VERBOSITY": "error",
        "TQDM_DISABLE": "1",
        "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "2"),
    }
    read, write = os.pipe()  # the child sees its end of file when this process is gone
    try:
        done = subprocess.run(command, env=environment, stdin=read, capture_output=True, text=True, check=False)
    finally:
        os.close(read)
        os.close(write)
    if done.returncode:
        lines = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
        reason = "it was killed, perhaps out of memory" if done.returncode < 0 else lines[-1]
        raise TandemError(f"{gguf.name} could not be turned into a model folder: {reason}")


def _convert(gguf: Path, folder: Path, *, tied: bool) -> None:
    from gguf import GGUFReader
    from transformers import AutoConfig, AutoTokenizer, GenerationConfig

    reader = GGUFReader(gguf)
    folder.mkdir(parents=True)
    write_tensors(reader, folder, tied=tied)
    # Both want a folder and the name of a file in it.
    tokenizer = AutoTokenizer.from_pretrained(str(gguf.parent), gguf_file=gguf.name)
    config = AutoConfig.from_pretrained(str(gguf.parent), gguf_file=gguf.name)
    vocabulary = tokenizer.get_vocab()
    ends = [vocabulary[token] for token in _TURN_ENDS if token in vocabulary] or [tokenizer.eos_token_id]
    tokenizer.eos_token = tokenizer.convert_ids_to_tokens(ends[0])
    tokenizer.pad_token = tokenizer.pad_token or tokenizer.convert_ids_to_tokens(ends[-1])
    tokenizer.model_max_length = config.max_position_embeddings
    _mend_splitting(tokenizer, reader)
    tokenizer.save_pretrained(folder)
    config.architectures = [ARCHITECTURES[config.model_type]]
    config.tie_word_embeddings = tied
    config.eos_token_id, config.pad_token_id = ends[0], tokenizer.pad_token_id
    config.save_pretrained(folder)
    # No sampling defaults here: a server would apply them to every request that does not say otherwise.
    GenerationConfig(
        eos_token_id=ends, pad_token_id=tokenizer.pad_token_id, bos_token_id=config.bos_token_id
    ).save_pretrained(folder)
    _mend_settings(folder)


def _mend_splitting(tokenizer: Any, reader: Any) -> None:
    """Give the tokenizer what its family has and the GGUF reader of Transformers leaves out."""
    from tokenizers import normalizers, pre_tokenizers

    field = reader.get_field("tokenizer.ggml.pre")
    family = field.contents() if field is not None else None
    if family == "qwen2":
        tokenizer.backend_tokenizer.normalizer = normalizers.NFC()
    elif family == "smollm":
        tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
            [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
        )


def _mend_settings(folder: Path) -> None:
    """Drop what describes this machine, and say what Transformers 4 reads under another name."""
    path = folder / "tokenizer_config.json"
    settings = json.loads(path.read_text())
    for key in ("is_local", "local_files_only", "backend"):
        settings.pop(key, None)
    if settings["tokenizer_class"] == "TokenizersBackend":
        settings["tokenizer_class"] = "PreTrainedTokenizerFast"
    path.write_text(json.dumps(settings, indent=2, ensure_ascii=False) + "\n")
    path = folder / "config.json"
    settings = json.loads(path.read_text())
    settings.pop("_model_name_or_path", None)
    settings["dtype"] = settings["torch_dtype"] = "bfloat16"
    theta = settings.get("rope_parameters", {}).get("rope_theta")
    if theta is not None:
        settings["rope_theta"] = theta
    path.write_text(json.dumps(settings, indent=2) + "\n")


def _end_with_parent() -> None:
    os.read(0, 1)
    os._exit(1)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Turn a GGUF file into a Transformers folder.")
    parser.add_argument("gguf", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--tied", action="store_true", help="input and output embeddings are one matrix")
    given = parser.parse_args()
    threading.Thread(target=_end_with_parent, daemon=True).start()
    _convert(given.gguf.resolve(), given.folder, tied=given.tied)
