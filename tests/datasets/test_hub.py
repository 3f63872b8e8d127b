"""The data-set hub: its real client against a local server that answers as the hub does."""

from __future__ import annotations

import hashlib
import io
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote

import pyarrow
import pytest
from pyarrow import parquet

pytestmark = pytest.mark.slow

BRANCH = "/resolve/refs/convert/parquet"


def table(**columns: list[object]) -> bytes:
    buffer = io.BytesIO()
    parquet.write_table(pyarrow.table(columns), buffer)
    return buffer.getvalue()


class Hub(ThreadingHTTPServer):
    """Serves `files` by path; `asked` lists what was fetched, `status` (if set) is the answer to everything."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.files: dict[str, bytes] = {}
        self.asked: list[str] = []
        self.status: int | None = None


class _Handler(BaseHTTPRequestHandler):
    server: Hub

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self.server.asked.append(unquote(self.path))
        self._answer(body=True)

    def _answer(self, *, body: bool) -> None:
        content = self.server.files.get(unquote(self.path.partition("?")[0]))
        if self.server.status or content is None:
            self.send_response(self.server.status or (200 if self.path == "/" else 404))
            self.send_header("X-Error-Code", "EntryNotFound")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        self.send_response(200)
        self.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
        self.send_header("X-Repo-Commit", "a" * 40)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if body:
            self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def hub() -> Iterator[Hub]:
    server = Hub()
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


def load(tmp_path: Path, endpoint: str, name: str, split: str | None = None, **more: str) -> tuple[list[str], str]:
    """Load a set in a process and a folder of its own; return what was printed and the last line of an error."""
    script = (
        f"from tandem.datasets import load_dataset\nfor p in load_dataset({name!r}, split={split!r}):\n"
        "    print(p.id, p.question, p.reference, p.metadata.get('subject'), sep='|')"
    )
    environment = {key: value for key, value in os.environ.items() if key != "TANDEM_DATA_DIR"}
    environment |= {"TANDEM_HOME": str(tmp_path / "home"), "HF_HOME": str(tmp_path / "hf"), "HF_ENDPOINT": endpoint}
    done = subprocess.run(
        [sys.executable, "-c", script],
        env=environment | more,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    error = done.stderr.strip().splitlines()[-1] if done.returncode else ""
    return done.stdout.splitlines(), error


def test_every_file_of_every_configuration_once(tmp_path: Path, hub: Hub) -> None:
    subjects = ["algebra", "counting_and_probability", "geometry", "intermediate_algebra", "number_theory"]
    subjects += ["prealgebra", "precalculus"]
    for subject in subjects:
        for number in range(2):
            content = table(problem=[f"{subject} {number}?"], solution=[rf"\boxed{{{number}}}"], type=["?"], x=[None])
            hub.files[f"/datasets/EleutherAI/hendrycks_math{BRANCH}/{subject}/test/000{number}.parquet"] = content
    endpoint = f"http://127.0.0.1:{hub.server_port}"
    lines, error = load(tmp_path, endpoint, "math", "test")
    assert not error
    assert len(lines) == 14
    assert lines[0] == "math-test-00001|algebra 0?|0|algebra"
    assert lines[3] == "math-test-00004|counting_and_probability 1?|1|counting_and_probability"
    kept = tmp_path / "home" / "datasets"
    assert [path.name for path in kept.iterdir()] == ["math_test.jsonl"]  # nothing half-done beside it
    assert '"x"' not in (kept / "math_test.jsonl").read_text()
    asked = list(hub.asked)
    assert load(tmp_path, endpoint, "math", "test") == (lines, "")
    assert hub.asked == asked  # the second time from the cache


def test_a_fetch_that_breaks_off_leaves_nothing(tmp_path: Path, hub: Hub) -> None:
    path = f"/datasets/HuggingFaceH4/aime_2024{BRANCH}/default/train/0000.parquet"
    hub.files[path] = table(problem=["P"], answer=["204"])[:-20]
    lines, error = load(tmp_path, f"http://127.0.0.1:{hub.server_port}", "aime24")
    assert not lines and "damaged" in error and "put it into" in error and "as aime24.jsonl" in error
    assert list((tmp_path / "home" / "datasets").iterdir()) == []
    hub.files[path] = table(problem=["P"], answer=["204"], url=["u"])
    assert load(tmp_path, f"http://127.0.0.1:{hub.server_port}", "aime24") == (["aime24-test-00001|P|204|None"], "")


def test_a_hub_that_cannot_be_had_is_one_line(tmp_path: Path, hub: Hub) -> None:
    endpoint = f"http://127.0.0.1:{hub.server_port}"
    _, error = load(tmp_path, "http://127.0.0.1:9", "aime24")
    assert "HuggingFaceH4/aime_2024 cannot be fetched from the data-set hub (it cannot be reached: no network" in error
    assert "put it into" in error and "as aime24.jsonl" in error
    _, offline = load(tmp_path, endpoint, "aime24", HF_HUB_OFFLINE="1")
    assert "it cannot be reached" in offline
    assert hub.asked == []
    _, gone = load(tmp_path, endpoint, "aime24")
    assert "cannot be fetched from the data-set hub (" in gone and "put it into" in gone
