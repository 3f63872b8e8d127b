"""One server for all of other people's clients, with keys, and a way to run their programs.

They want other packages than Tandem does, so they live in an environment of their own, which `make recipes` makes and
uses; RECIPES_PYTHON names the Python of another one.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from pages import DOCS
from serving import ANSWER, Server, mentor, serving

from tandem.errors import EndpointError
from tandem.models.base import Delta, Request
from tandem.models.fake import FakeModel, Rule, Script
from tandem.server.keys import add_key

PYTHON = os.environ.get("RECIPES_PYTHON", ".venv-recipes/bin/python")
PROGRAMS = Path(__file__).parent / "programs"
CONTEXT = 2000  # tokens of the mentor's context; the intern has more
PRICES = "fake-mentor: {input: 10, output: 40}\nfake-intern: {input: 1, output: 4}\n"


class Moody(FakeModel):
    """Answers as the fake model does, and fails in the way that the question names."""

    async def stream(self, request: Request) -> AsyncGenerator[Delta, None]:
        said = request.messages[-1].content
        if "be down" in said:
            raise EndpointError("the connection was refused", retryable=True)
        if "be broken" in said:
            raise EndpointError("the endpoint answers nonsense")
        if "be a bug" in said:
            raise RuntimeError("a bug")
        if "be slow" in said:
            await asyncio.sleep(3600)
        async with aclosing(super().stream(request)) as deltas:
            async for delta in deltas:
                if "stop midway" in said:
                    await asyncio.sleep(3600)
                yield delta


@dataclass
class Recipes:
    """The running server, its keys by name, and its clients."""

    server: Server
    keys: dict[str, str] = field(default_factory=dict)

    def client(self, folder: Path, *words: str) -> str:
        """Run the clients' Python with the server's address and key in its environment; return what it printed."""
        python = shutil.which(PYTHON)
        assert python, f"there is no {PYTHON} with the clients: make recipes"
        environment = {name: value for name, value in os.environ.items() if not name.startswith(("OPENAI_", "TANDEM_"))}
        environment |= {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "LITELLM_LOCAL_MODEL_COST_MAP": "True"}
        environment |= {"OPENAI_BASE_URL": f"{self.server.url}/v1", "OPENAI_API_KEY": self.keys["anyone"]}
        environment |= {f"KEY_{name.upper()}": key for name, key in self.keys.items()}
        environment |= {
            "PYTHONPATH": str(DOCS / "recipes"),
            "PYTHONDONTWRITEBYTECODE": "1",
            "LLM_USER_PATH": str(folder),
        }
        done = subprocess.run(
            [str(Path(python).absolute()), *words],
            env=environment,
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def program(self, folder: Path, name: str) -> Any:
        """Run one of `programs`; return the JSON of its last line."""
        return json.loads(self.client(folder, str(PROGRAMS / name)).splitlines()[-1])

    def page(self, folder: Path, text: str) -> str:
        """Run a program of the page, at this server and with its key."""
        text = text.replace("http://127.0.0.1:8080", self.server.url)
        return self.client(folder, "-c", text.replace('"none"', repr(self.keys["anyone"])))


@pytest.fixture(scope="session")
def recipes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Recipes]:
    folder = tmp_path_factory.mktemp("server")
    (prices := folder / "prices.yaml").write_text(PRICES)
    keys = {
        "anyone": add_key(folder / "keys.yaml", "anyone", None, None),
        "rare": add_key(folder / "keys.yaml", "rare", 1, None),
        "poor": add_key(folder / "keys.yaml", "poor", None, 1e-9),
    }
    script = Script(rules=(Rule(text=ANSWER, when="17*23"),))  # anything else: as the fake intern of `tandem run`
    small = mentor()
    small.spec = small.spec.model_copy(update={"context": CONTEXT})
    with serving(
        small, Moody(script, name="fake-intern"), keys=folder / "keys.yaml", prices=prices, deadline=20.0, queue=64
    ) as server:
        server.key = keys["anyone"]
        yield Recipes(server, keys)
