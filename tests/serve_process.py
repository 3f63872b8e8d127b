"""`tandem serve` as a process of its own, and what the system says of it: its memory, open files and CPU time."""

from __future__ import annotations

import asyncio
import os
import re
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
from prometheus_client.parser import text_string_to_metric_families


@dataclass(frozen=True)
class ServeProcess:
    """A server that runs; what it said goes into the file `log`."""

    url: str
    pid: int
    log: Path

    @property
    def files(self) -> int:
        """Its open files, connections among them."""
        return len(os.listdir(f"/proc/{self.pid}/fd"))

    def memory(self, what: str = "VmRSS") -> float:
        """Return its resident memory in MB; VmHWM is the most that it ever was."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        found = re.search(rf"{what}:\s+(\d+) kB", status)
        assert found
        return int(found[1]) / 1e3

    @property
    def cpu(self) -> float:
        """The seconds that it has computed."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def metrics(self) -> dict[tuple[str, tuple[str, ...]], float]:
        """Return /metrics: values by the sample's name and its labels' values, in the order of the labels' names."""
        families = text_string_to_metric_families(httpx.get(f"{self.url}/metrics", trust_env=False).text)
        samples = [sample for family in families for sample in family.samples]
        return {(s.name, tuple(value for _, value in sorted(s.labels.items()))): s.value for s in samples}


@asynccontextmanager
async def serve_process(folder: Path, *options: str) -> AsyncGenerator[ServeProcess, None]:
    """Run a server in `folder`, at a port that is free; the context is entered when it is ready."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("TANDEM_", "OPENAI_"))}
    environment["TANDEM_HOME"] = str(folder / "home")
    command = [sys.executable, "-m", "tandem", "serve", "--port", "0", *options]
    log = folder / "serve.log"
    with log.open("w") as said:
        process = await asyncio.create_subprocess_exec(*command, cwd=folder, env=environment, stderr=said)
    try:
        async with asyncio.timeout(120):
            while not (found := re.search(r"the page at (\S+)\n", log.read_text())):
                assert process.returncode is None, log.read_text()
                await asyncio.sleep(0.02)
            async with httpx.AsyncClient(trust_env=False) as client:
                while (await client.get(f"{found[1]}/readyz")).status_code != 200:  # noqa: ASYNC110
                    await asyncio.sleep(0.02)
        yield ServeProcess(found[1], process.pid, log)
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()
