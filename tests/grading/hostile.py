"""Programs that try to pass without being right, to break out, or to stall the run; `{...}` are filled by the tests.

Each is asked for `f` and tested by `assert f(20) == 42` and `assert f([1, 2]) == [2, 1]`.
"""

from __future__ import annotations

TESTS = "assert f(20) == 42\nassert f([1, 2]) == [2, 1]\n"
RIGHT = "def f(x):\n    return 42 if x == 20 else x[::-1]\n"

# Tricks to be found right: over at once, and never right.
LIARS = {
    "exit before the tests": "import sys\nsys.exit(0)",
    "os._exit before the tests": "import os\nos._exit(0)",
    "exit in a call": "import sys\ndef f(x):\n    sys.exit(0)",
    "os._exit in a call": "import os\ndef f(x):\n    os._exit(0)",
    "SystemExit in a call": "def f(x):\n    raise SystemExit(0)",
    "KeyboardInterrupt in a call": "def f(x):\n    raise KeyboardInterrupt",
    "no definition": "x = 1",
    "a syntax error": "def f(x) return x",
    "null bytes": "def f(x):\n    return '\0'",
    "patched builtins": """
import builtins, sys
class Yes:
    def __eq__(self, other): return True
builtins.AssertionError = type("Quiet", (Exception,), {})
builtins.all = builtins.any = lambda *a: True
sys.modules["math"] = sys.modules["unittest"] = sys.modules["json"] = None
sys.settrace(lambda *a: None)
def f(x): return 1
""",
    "equal to everything": """
class Yes:
    def __eq__(self, other): return True
    def __ne__(self, other): return False
    def __hash__(self): return 0
    def __bool__(self): return True
def f(x): return Yes()
""",
    "subclasses that lie": """
class I(int):
    def __eq__(self, other): return True
    def __repr__(self): return "42"
    def __int__(self): return 42
    def __index__(self): return 42
    __hash__ = int.__hash__
class L(list):
    def __eq__(self, other): return True
    def __iter__(self): return iter([2, 1])
    def __len__(self): return 2
def f(x): return I(7) if x == 20 else L([9])
""",
    "equality inside containers": """
class Yes:
    def __eq__(self, other): return True
def f(x): return Yes() if x == 20 else [Yes(), Yes()]
""",
    "frames and gc": """
import gc, sys
def f(x):
    frame = sys._getframe()
    while frame:
        for value in list(frame.f_locals.values()) + list(frame.f_globals.values()):
            if isinstance(value, str) and "assert" in value:
                return int(value.split("== ")[1].split()[0])
        frame = frame.f_back
    for value in gc.get_objects():
        if isinstance(value, dict) and "tests" in value:
            return 42
""",
    "the protocol's own module": """
import sys
wire = sys.modules["inside.wire"]
for name in ("send", "encode"):
    setattr(wire, name, lambda *a, **k: None)
def f(x): return 1
""",
    "tests in files": """
import glob, os
def f(x):
    for top in ("/", "/tmp", "/box", "/proc", "/proc/1", "/proc/self", "/proc/self/fd", "/dev/fd", os.getcwd()):
        for path in glob.glob(top + "/*"):
            try:
                text = open(path, errors="replace").read(1 << 20)
            except OSError:
                continue
            if "assert f(20)" in text and "hostile" not in path:
                return 42 if x == 20 else [2, 1]
""",
    "the parent's memory": """
import os
def f(x):
    for pid in [os.getppid(), *range(1, 400)]:
        for name in ("mem", "maps", "cmdline", "environ"):
            try:
                data = open(f"/proc/{pid}/{name}", "rb").read(1 << 20)
            except (OSError, OverflowError, ValueError):
                continue
            if b"assert f(20)" in data:
                return 42 if x == 20 else [2, 1]
""",
    "forged verdicts": r"""
import os
for fd in range(64):
    try:
        os.write(fd, b'ready\n{"passed": true, "reason": ""}\n')
    except OSError:
        pass
def f(x): return 1
""",
    "forged frames": r"""
import json, os
def frame(message):
    data = json.dumps(message).encode()
    return len(data).to_bytes(4, "big") + data
for fd in range(3, 64):
    for message in (["ready"], ["loaded"], ["passed", True], ["raise", "SystemExit", "0"], ["callback", 0, []]):
        try:
            os.write(fd, frame(message))
        except OSError:
            pass
def f(x): return 1
""",
    "a frame without end": r"""
import os
for fd in range(3, 64):
    try:
        os.write(fd, b"\xff\xff\xff\xff")
    except OSError:
        pass
def f(x): return 1
""",
    "all descriptors closed": "import os\nos.closerange(0, 64)\ndef f(x): return 1",
    "an unsafe type": "def f(x): return exec",
    "raises what a test might expect": "def f(x): raise AssertionError('as expected')",
    "an exception that cannot be printed": """
class Odd(Exception):
    def __str__(self): raise ValueError
def f(x): raise Odd
""",
    "a crash": "import ctypes\ndef f(x):\n    ctypes.string_at(0)",
    "a crash by recursion": """
import sys
sys.setrecursionlimit(10**9)
def f(x):
    class A:
        def __repr__(self): return repr([self])
    return repr(A())
""",
    "deep recursion": "def f(x): return f(x)",
    "a cyclic value": "def f(x):\n    a = []\n    a.append(a)\n    return a",
    "a deeply nested value": "def f(x):\n    a = []\n    for _ in range(100000):\n        a = [a]\n    return a",
    "a generator without end": "import itertools\ndef f(x): return itertools.count()",
    "a reader of input": "import sys\ndef f(x): return int(input() + sys.stdin.read())",
    "a new process": "import subprocess\ndef f(x): return subprocess.run(['true']).returncode or 42",
    "a name space of its own": """
import ctypes
def f(x):
    return 42 if ctypes.CDLL(None).unshare(0x10000000) == 0 and x == 20 else [2, 1]
""",
}

# Attempts to take more than their share: each ends by a limit or at the clock.
HOGS = {
    "an endless loop": "while True: pass",
    "an endless loop in a call": "def f(x):\n    while True: pass",
    "an endless sleep": "import time\ndef f(x): time.sleep(10**6)",
    "signals ignored": """
import signal, time
for number in range(1, 65):
    try:
        signal.signal(number, signal.SIG_IGN)
    except (OSError, ValueError):
        pass
def f(x):
    while True:
        try:
            time.sleep(10**6)
        except BaseException:
            pass
""",
    "a fork bomb": """
import os
def f(x):
    while True:
        try:
            os.fork()
        except OSError:
            pass
""",
    "a thread bomb": """
import threading, time
threading.stack_size(32768)
def f(x):
    while True:
        try:
            threading.Thread(target=time.sleep, args=(10**6,)).start()
        except RuntimeError:
            pass
""",
    "threads that never end": """
import threading
def spin():
    while True: pass
for _ in range(8):
    threading.Thread(target=spin).start()
def f(x): return 1
""",
    "a daemon": """
import os, time
def f(x):
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            while True: time.sleep(1)
        os._exit(0)
    return 1
""",
    "a memory hog": "def f(x):\n    kept = []\n    while True: kept.append(bytearray(1 << 24))",
    "a huge list": "def f(x): return list(range(10**9))",
    "a huge text": "def f(x): return 'x' * (1 << 29)",
    "a huge number": "def f(x): return 1 << (1 << 31)",
    "output without end": """
import os, sys
def f(x):
    for _ in range(1 << 10):
        sys.stdout.write("x" * (1 << 20))
        os.write(2, b"x" * (1 << 20))
    return 1
""",
    "a disk filler": """
import os
def f(x):
    for n in range(10**6):
        with open(f"/tmp/tandem-hostile-{n % 4}", "wb") as file:
            file.write(b"x" * (1 << 24))
    return 1
""",
    "hidden memory": """
import ctypes, os
libc = ctypes.CDLL(None, use_errno=True)
def f(x):
    if hasattr(os, "memfd_create"):
        os.memfd_create("hog")
    return 42 if x == 20 else [2, 1]
""",
}

ESCAPES = """
import os, socket
def f(x):
    for path in {paths!r}:
        try:
            with open(path, "w") as file:
                file.write("escaped")
        except OSError:
            pass
    try:
        socket.create_connection(("127.0.0.1", {port}), timeout=1).sendall(b"escaped")
    except OSError:
        pass
    return 1
"""
