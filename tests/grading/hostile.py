"""Programs that try to pass without being right, to break out, or to stall the run; `{...}` are filled by the tests.

Each is asked for `f` and tested by `f(20) == 42` and `f([1, 2]) == [2, 1]`, in every form in which people write tests.
"""

from __future__ import annotations

TESTS = "assert f(20) == 42\nassert f([1, 2]) == [2, 1]\n"
FORMS = {
    "asserts": TESTS,
    "unittest": """
import unittest
class Case(unittest.TestCase):
    def test_number(self): self.assertEqual(f(20), 42)
    def test_list(self): self.assertEqual(f([1, 2]), [2, 1])
""",
    "map": "assert list(map(f, [20, [1, 2]])) == [42, [2, 1]]",
    "zip": "assert all(a == b for a, b in zip(map(f, [20, [1, 2]]), [42, [2, 1]]))",
    "doctest": """
import doctest
def cases():
    '''
    >>> f(20)
    42
    >>> f([1, 2])
    [2, 1]
    '''
runner = doctest.DocTestRunner(verbose=False)
for test in doctest.DocTestFinder().find(cases, "cases", globs={"f": f}):
    runner.run(test)
assert runner.summarize(verbose=False).failed == 0
""",
}
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
    "GeneratorExit in a call": "def f(x):\n    raise GeneratorExit",
    "StopIteration in a call": "def f(x):\n    raise StopIteration",
    "StopIteration with a value": "def f(x):\n    raise StopIteration(42 if x == 20 else [2, 1])",
    "StopAsyncIteration in a call": "def f(x):\n    raise StopAsyncIteration",
    "an heir of StopIteration": "class Over(StopIteration): pass\ndef f(x):\n    raise Over",
    "an heir of SystemExit": "class Over(SystemExit): pass\ndef f(x):\n    raise Over(0)",
    "an heir of two": "class Over(StopIteration, ValueError): pass\ndef f(x):\n    raise Over",
    "BaseException itself": "def f(x):\n    raise BaseException",
    "a group of exits": "def f(x):\n    raise BaseExceptionGroup('all', [SystemExit(0), GeneratorExit()])",
    "a group of ends": "def f(x):\n    raise ExceptionGroup('all', [StopIteration()])",
    "a cancelled task": "import asyncio\ndef f(x):\n    raise asyncio.CancelledError",
    "a skipped test": "import unittest\ndef f(x):\n    raise unittest.SkipTest('not today')",
    "an interrupt sent to itself": "import signal\ndef f(x):\n    signal.raise_signal(signal.SIGTERM)",
    "aborting": "import os\ndef f(x): os.abort()",
    "killing itself": "import os\ndef f(x): os.kill(os.getpid(), 9)",
    "killing its group": "import os\ndef f(x): os.killpg(0, 9)",
    "killing everybody": "import os\ndef f(x): os.kill(-1, 9)",
    "an exit by alarm": """
import os, signal, time
signal.signal(signal.SIGALRM, lambda *a: os._exit(0))
signal.setitimer(signal.ITIMER_REAL, 0.01)
def f(x): time.sleep(5)
""",
    "an exit from a thread": """
import os, threading, time
def f(x):
    threading.Thread(target=os._exit, args=(0,)).start()
    time.sleep(5)
""",
    "hooks at the exit": """
import atexit, os, sys
atexit.register(os._exit, 0)
sys.excepthook = lambda *a: os._exit(0)
def f(x): sys.exit()
""",
    "unittest patched": """
import unittest
for name in dir(unittest.TestCase):
    if name.startswith(("assert", "fail")):
        setattr(unittest.TestCase, name, lambda *a, **k: None)
unittest.TestResult.wasSuccessful = lambda self: True
unittest.TestCase.run = lambda *a: None
def f(x): return 1
""",
    "doctest patched": """
import doctest
doctest.OutputChecker.check_output = lambda *a: True
doctest.DocTestRunner.run = doctest.DocTestRunner.summarize = lambda *a, **k: doctest.TestResults(0, 2)
def f(x): return 1
""",
    "answers printed": "def f(x): print(42 if x == 20 else [2, 1])",
    "its own tests": """
def check(candidate): pass
METADATA = {}
class Case: pass
def cases(): pass
def f(x): return 1
""",
    "an import hook": """
import sys
class Finder:
    def find_spec(self, *a): raise SystemExit(0)
sys.meta_path.insert(0, Finder())
def f(x):
    import doctest, unittest
    return 1
""",
    "a profiler": "import sys\nsys.setprofile(lambda *a: None)\ndef f(x): return 1",
    "ANY of unittest.mock": "from unittest.mock import ANY\ndef f(x): return ANY",
    "a mock": "from unittest.mock import MagicMock\nf = MagicMock()",
    "a mock that is equal": """
from unittest.mock import MagicMock
def f(x):
    mock = MagicMock()
    mock.__eq__.return_value = True
    return mock
""",
    "a class in place of a function": """
class f:
    def __init__(self, x): pass
    def __eq__(self, other): return True
""",
    "a class of classes": """
class Meta(type):
    def __eq__(self, other): return True
    def __hash__(self): return 0
class Yes(metaclass=Meta): pass
def f(x): return Yes
""",
    "a text that lies": """
class S(str):
    def __eq__(self, other): return True
    def __repr__(self): return "42"
    __hash__ = str.__hash__
def f(x): return S("no")
""",
    "a number that lies": """
class F(float):
    def __eq__(self, other): return True
    __hash__ = float.__hash__
def f(x): return F("nan")
""",
    "a dictionary that lies": """
class D(dict):
    def __eq__(self, other): return True
    def items(self): return [(0, 42)]
def f(x): return D()
""",
    "a tuple that lies": """
class T(tuple):
    def __eq__(self, other): return True
    def __getitem__(self, n): return [2, 1][n]
    __hash__ = tuple.__hash__
def f(x): return T((9, 9))
""",
    "an object that pickles as the answer": """
class P:
    def __reduce__(self): return int, (42,)
    def __copy__(self): return 42
    __deepcopy__ = __copy__
def f(x): return P()
""",
    "not a number": "def f(x): return float('nan')",
    "a coroutine": "async def f(x): return 42 if x == 20 else [2, 1]",
    "a generator of the answer": "def f(x): yield 42 if x == 20 else [2, 1]",
    "a function that returns the answer": "def f(x): return lambda: 42 if x == 20 else [2, 1]",
    "no function": "f = 42",
    "a module's __getattr__": "def __getattr__(name): return lambda x: 42 if x == 20 else [2, 1]",
    "gone after the first call": """
def f(x):
    del globals()["f"]
    return 42
""",
    "right once, then away": """
import os
def f(x):
    if x != 20: os._exit(0)
    return 42
""",
    "right once, then over": """
def f(x):
    if x != 20: raise StopIteration
    return 42
""",
    "the argument changed": "def f(x):\n    if x != 20: x.reverse()\n    return 42 if x == 20 else None",
    "forged ends": r"""
import json, os
def f(x):
    for kind in ("StopIteration", "StopAsyncIteration", "GeneratorExit", "SystemExit", "KeyboardInterrupt", "object"):
        data = json.dumps(["raise", kind, []]).encode()
        for fd in range(3, 64):
            try:
                os.write(fd, len(data).to_bytes(4, "big") + data)
            except OSError:
                pass
    os._exit(0)
""",
    "half a frame": r"""
import os
def f(x):
    for fd in range(3, 64):
        try:
            os.write(fd, b"\0\0\0")
        except OSError:
            pass
    os._exit(0)
""",
    "others' descriptors": r"""
import glob, os
def f(x):
    for path in glob.glob("/proc/[0-9]*/fd/*"):
        try:
            with open(path, "wb", buffering=0) as file:
                file.write(b'{"passed": true, "reason": ""}\n')
        except OSError:
            pass
    return 1
""",
    "constants changed": """
import ctypes
ctypes.memset(id(7) + 24, 42, 1)
def f(x): return 7
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
    "links without end": """
import os
def f(x):
    for n in range(10**7): os.symlink("x" * 4000, f"l{n}")
""",
    "folders without end": """
import os
def f(x):
    for n in range(10**7):
        os.mkdir("d")
        os.chdir("d")
""",
    "empty files without end": """
def f(x):
    for n in range(10**7): open(f"e{n}", "w").close()
""",
    "names for one file": """
import os
def f(x):
    open("one", "w").close()
    for n in range(10**7): os.link("one", f"n{n}")
""",
    "devices without end": """
import os
def f(x):
    for n in range(10**7): os.mkfifo(f"p{n}")
""",
    "attributes without end": """
import os
def f(x):
    open("one", "w").close()
    for n in range(10**6): os.setxattr("one", f"user.{n}", b"x" * 4000)
""",
    "pipes filled": """
import fcntl, os
def f(x):
    for _ in range(10**4):
        read, write = os.pipe()
        os.set_blocking(write, False)
        os.write(write, b"x" * (1 << 20))
""",
    "descriptors in flight": """
import array, os, socket
def f(x):
    while True:
        a, b = socket.socketpair()
        for _ in range(200):
            a.sendmsg([b"x"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [b.fileno()]))])
        a.detach(), b.detach()
""",
    "watches": """
import ctypes, os
libc = ctypes.CDLL(None)
def f(x):
    fd = libc.inotify_init()
    for folder, _, names in os.walk("/"):
        for name in names:
            if libc.inotify_add_watch(fd, os.fsencode(os.path.join(folder, name)), 2) < 0: raise OSError
""",
    "timers": """
import ctypes
libc = ctypes.CDLL(None)
def f(x):
    timer = ctypes.c_void_p()
    for _ in range(10**6):
        if libc.timer_create(0, None, ctypes.byref(timer)): raise OSError
""",
    "keys": """
import ctypes
libc = ctypes.CDLL(None)
def f(x):
    for n in range(10**6):
        if libc.syscall(248, b"user", b"k%d" % n, b"x" * 1000, 1000, -3) < 0: raise OSError
""",
    "shared memory": """
import ctypes
libc = ctypes.CDLL(None)
def f(x):
    while libc.shmget(0, 1 << 24, 0o1600) >= 0: pass
    raise OSError
""",
    "shared memory without a name": """
import mmap
def f(x):
    kept = []
    while True:
        kept.append(mmap.mmap(-1, 1 << 24))
        for n in range(0, 1 << 24, 4096): kept[-1][n] = 1
""",
    "mappings": """
import mmap
def f(x):
    kept = []
    while True: kept.append(mmap.mmap(-1, 4096, prot=mmap.PROT_READ if len(kept) % 2 else mmap.PROT_WRITE))
""",
    "event descriptors": """
import os
def f(x):
    while True: os.eventfd(0)
""",
    "a number without end": "def f(x): return 10 ** 10 ** 9",
    "an expression that explodes": "import re\ndef f(x): return re.match('(a*)*$', 'a' * 40 + 'b') or 42",
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
