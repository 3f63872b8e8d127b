"""Running model-written, possibly hostile programs against a problem's tests.

A candidate's program and the tests run in two processes, each in a sandbox of its own. The tests call the program over
a pipe; arguments and results cross it as plain data, so that comparisons happen out of the program's reach. The
tests' verdict goes to the run over a pipe that the program never has. Only the standard library can be imported.

Both kinds: own user id (where the run is root), limits on computing time, address space, threads, file size and open
files, a limit on the clock, and a system-call filter (x86_64 and aarch64 Linux): no new processes, no sockets.
`bwrap`: besides, name spaces of their own: no network, no files but the interpreter's library (read-only) and 16 MiB
that vanish, in at most 1024 files, links and folders, none of the machine's processes. Where the kernel does not let us
count those (AppArmor's profile for bwrap on Ubuntu, a setuid bwrap), the program can make none.

What no kind stops:
- faults of the kernel, of the processor (Spectre) or of bubblewrap, and timing as a way to learn what else runs;
- heating the machine: each submission may compute on all processors that its threads find, up to its limits, and each
  of its two processes may fill its memory limit, the program 16 MiB of files besides;
- a program that special-cases the examples which the question shows, or that guesses the tests from earlier calls;
- tests that check the program with its own helper, or that only require "anything that is not ...";
- changes that a program makes in its arguments are not seen: they are copies.
What `process` does not stop:
- reading every file, and writing every folder, that its user may: as root's guest what is open to all users, else all
  that is the run's own user's, keys in files included; files up to 16 MiB each, in any number;
- seeing the machine's processes; as the run's own user, sending them signals and reaching what they have open, so that
  even a verdict can be forged;
- on a system other than Linux: the network, new processes and their outliving the run.
Without the system-call filter (another processor): new processes up to the limit on threads, each with the memory limit
of its own.
"""

from __future__ import annotations

from tandem.grading.sandbox.launch import Kind
from tandem.grading.sandbox.probe import probe
from tandem.grading.sandbox.run import MEMORY, SECONDS, ProgramVerdict, Sandbox, Submission, open_sandbox

__all__ = ["MEMORY", "SECONDS", "Kind", "ProgramVerdict", "Sandbox", "Submission", "open_sandbox", "probe"]
