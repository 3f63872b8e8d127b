"""A tiny server that behaves as `behaviour.json` of its model folder says.

fail: text it prints before it ends with status 1; hang: True makes it never open its port; children: processes it
starts (own: True puts them into sessions of their own, stubborn: True makes them ignore SIGTERM); sick: /health says
503; crash: it ends by itself after so many seconds; stubborn: it ignores SIGTERM. `starts.txt` gets a line per start.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

METRICS = """# HELP vllm:num_requests_running Number of requests in model execution batches.
# TYPE vllm:num_requests_running gauge
vllm:num_requests_running{engine="0",model_name="m"} 3.0
vllm:num_requests_waiting{engine="0",model_name="m"} 1.0
vllm:num_requests_waiting_by_reason{engine="0",model_name="m",reason="capacity"} 1.0
vllm:kv_cache_usage_perc{engine="0",model_name="m"} 0.25
vllm:prefix_cache_queries_total{engine="0",model_name="m"} 400.0
vllm:prefix_cache_queries_created{engine="0",model_name="m"} 1.79e+09
vllm:prefix_cache_hits_total{engine="0",model_name="m"} 300.0
vllm:prompt_tokens_total{engine="0",model_name="m"} 400.0
"""


def flag(name: str) -> str | None:
    return sys.argv[sys.argv.index(name) + 1] if name in sys.argv else None


def main() -> None:
    folder = Path(flag("--model") or sys.argv[2])
    port = int(flag("--port") or 0)
    behaviour = json.loads((folder / "behaviour.json").read_text())
    with (folder / "starts.txt").open("a") as file:
        file.write(f"{os.getpid()} {port}\n")
    if behaviour.get("stubborn"):
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    ignore = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); " if behaviour.get("stubborn") else ""
    for own in behaviour.get("children", []):
        child = subprocess.Popen(
            [sys.executable, "-c", f"{ignore}import time; time.sleep(600)"], start_new_session=own["own"]
        )
        with (folder / "children.txt").open("a") as file:
            file.write(f"{child.pid}\n")
    if "fail" in behaviour:
        print(behaviour["fail"], flush=True)
        sys.exit(1)
    if behaviour.get("hang"):
        print("(Worker pid=7) INFO 11-22 21:52:57 [runner.py:68] Starting to load model x...", flush=True)
        time.sleep(600)
    if seconds := behaviour.get("crash"):
        threading.Timer(seconds, os._exit, (3,)).start()
    begun = time.monotonic()
    served = flag("--served-model-name")
    key = os.environ.get("VLLM_API_KEY")

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            now = json.loads((folder / "behaviour.json").read_text())
            generated = f'vllm:generation_tokens_total{{engine="0"}} {100 * (time.monotonic() - begun)}\n'
            pages = {
                "/health": "",
                "/v1/models": json.dumps({"object": "list", "data": [{"id": served, "object": "model"}]}),
                "/metrics": METRICS + generated,
            }
            page = pages.get(self.path)
            if key and self.path.startswith("/v1") and self.headers["Authorization"] != f"Bearer {key}":
                self.send_error(401)
                return
            sick = self.path == "/health" and str(os.getpid()) == str(now.get("sick"))
            self.send_response(404 if page is None else 503 if sick else 200)
            self.end_headers()
            self.wfile.write((page or "").encode())

        def log_message(self, *_: object) -> None:
            return

    print("Loading safetensors checkpoint shards:  50% Completed | 1/2 [00:01<00:00,  1.38s/it]", flush=True)
    time.sleep(behaviour.get("slow", 0.0))
    ThreadingHTTPServer((flag("--host") or "127.0.0.1", port), Handler).serve_forever()


main()
