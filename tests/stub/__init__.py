"""A small real HTTP server that speaks /v1/models, /v1/chat/completions and, with a tokenizer, /v1/completions.

In tests: `async with Stub(Reply(tokens=("Hello",))) as stub: ... stub.url ...`. For benchmarks, as a process of its
own: `python tests/stub --port 8001 --first-ms 50 --token-ms 5 --tokens 128`. Standard library only.
"""

from __future__ import annotations

from stub.chaos import Chaos
from stub.reply import Fault, Reply, busy
from stub.server import Seen, Stub
from stub.tokens import Tokenizer

__all__ = ["Chaos", "Fault", "Reply", "Seen", "Stub", "Tokenizer", "busy"]
