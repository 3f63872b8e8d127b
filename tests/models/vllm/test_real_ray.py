"""`tandem run --ray` with real replicas on a cluster of two nodes on this machine, one of which is killed meanwhile."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tandem.models.vllm import guard

pytestmark = [pytest.mark.vllm, pytest.mark.weights, pytest.mark.timeout(900)]

NODE = {"num_cpus": 1, "object_store_memory": 100 << 20, "include_dashboard": False}
PROBLEMS = 20


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    from ray.cluster_utils import Cluster

    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    made = Cluster(initialize_head=True, head_node_args=NODE)
    made.add_node(**NODE)
    yield made
    made.shutdown()


def kill_node(cluster: Any) -> None:
    """Kill all processes of the second node at once; the servers' guards are all that is left of it."""
    node = cluster.list_all_nodes()[1]
    own = {started.process.pid for kind in node.all_processes.values() for started in kind}
    workers = {pid for pid, process in guard.processes().items() if process.parent in own}
    guard.signal_all(own | workers, signal.SIGKILL)
    cluster.remove_node(node, allow_graceful=False)


def test_a_run_goes_on_when_a_node_is_killed(smollm2: Path, cluster: Any, tmp_path: Path) -> None:
    out, records = tmp_path / "run", tmp_path / "run" / "records.jsonl"
    argv = [sys.executable, "-m", "tandem", "run", "--mentor", "fake", "--intern", "smollm2-135m", "--out", str(out)]
    argv += ["--ray", cluster.address, "--ray-cores", "1", "--intern-replicas", "2", "--strategy", "fixed:low"]
    argv += ["--dataset", "starter", "--limit", str(PROBLEMS), "--concurrency", "8", "--intern-max-tokens", "256"]
    argv += ["--vllm-arg=--max-model-len=2048"]
    said = (tmp_path / "said").open("w+")
    with subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=said, stderr=said, env=os.environ) as run:
        try:
            while run.poll() is None and (not records.exists() or records.read_text().count("\n") < 3):
                time.sleep(0.1)
            done = records.read_text().count("\n") if records.exists() else 0
            kill_node(cluster)
            status = run.wait(600)
        finally:
            run.terminate()
    said.seek(0)
    text = said.read()
    assert status == 0, text
    assert done < PROBLEMS
    assert re.search(r"went down and is restarted in \S+ s: .*\(on ", text) and "raylet" not in text, text
    found = [json.loads(line) for line in records.read_text().splitlines()]
    assert len(found) == PROBLEMS and set(Counter(record["problem"] for record in found).values()) == {1}
    assert not any(record["error"] for record in found)
    for record in found:  # whatever was tried before, one answer each
        answers = [e for e in record["ledger"]["entries"] if (e["role"], e["purpose"]) == ("intern", "answer")]
        assert [entry["error"] for entry in answers].count(None) == 1
