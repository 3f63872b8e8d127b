"""A seccomp filter: no new processes (threads are fine), no sockets, no memory that address-space limits do not see.

What the kernel keeps for a process (watches, queues, keys, attributes) is such memory where no other limit counts it;
so are new files where the folder for them could not be limited.

Numbers from the kernel's tables (asm/unistd_64.h; asm-generic/unistd.h), instructions as in linux/filter.h. On another
processor there is no filter, and the limits on processes and the network namespace stand alone.
"""

from __future__ import annotations

import ctypes
import os
import sys

# name: x86_64, aarch64 (-1: it does not exist there)
_NUMBERS = {
    "fork": (57, -1),
    "vfork": (58, -1),
    "socket": (41, 198),
    "ptrace": (101, 117),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "pidfd_getfd": (438, 438),
    "unshare": (272, 97),
    "setns": (308, 268),
    "mount": (165, 40),
    "shmget": (29, 194),
    "msgget": (68, 186),
    "semget": (64, 190),
    "mq_open": (240, 180),
    "memfd_create": (319, 279),
    "memfd_secret": (447, 447),
    "add_key": (248, 217),
    "request_key": (249, 218),
    "keyctl": (250, 219),
    "bpf": (321, 280),
    "perf_event_open": (298, 241),
    "userfaultfd": (323, 282),
    "io_uring_setup": (425, 425),
    "io_setup": (206, 0),
    "inotify_init": (253, -1),
    "inotify_init1": (294, 26),
    "fanotify_init": (300, 262),
    "landlock_create_ruleset": (444, 444),
    "setxattr": (188, 5),
    "lsetxattr": (189, 6),
    "fsetxattr": (190, 7),
    "setxattrat": (463, 463),
}
_FILES = {
    "creat": (85, -1),
    "openat2": (437, 437),
    "mkdir": (83, -1),
    "mkdirat": (258, 34),
    "mknod": (133, -1),
    "mknodat": (259, 33),
    "link": (86, -1),
    "linkat": (265, 37),
    "symlink": (88, -1),
    "symlinkat": (266, 36),
}
_OPENS = {"open": (2, -1, 1), "openat": (257, 56, 2)}  # and which argument holds the flags
_CREATES = os.O_CREAT | 0o20000000  # O_TMPFILE without O_DIRECTORY
_MACHINES = {"x86_64": (0, 0xC000003E, 56), "aarch64": (1, 0xC00000B7, 220)}  # column, AUDIT_ARCH, clone
_CLONE3 = 435
_CLONE_THREAD = 0x00010000
_LOAD, _EQUAL, _AT_LEAST, _ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_ALLOW, _KILL, _ERRNO = 0x7FFF0000, 0x80000000, 0x00050000
_EPERM, _EAGAIN, _ENOSPC, _ENOSYS = 1, 11, 28, 38
_NR, _ARCH, _FIRST_ARGUMENT = 0, 4, 16  # offsets in struct seccomp_data
_PR_SET_SECCOMP, _MODE_FILTER = 22, 2

_Instruction = tuple[int, int, int, int]  # code, jump if true, jump if false, operand


class _Filter(ctypes.Structure):
    _fields_ = (
        ("code", ctypes.c_uint16),
        ("true", ctypes.c_uint8),
        ("false", ctypes.c_uint8),
        ("operand", ctypes.c_uint32),
    )


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_uint16), ("filter", ctypes.POINTER(_Filter)))


def forbid(libc: ctypes.CDLL, files: bool) -> None:
    """Install the filter for this process and all its threads to come; without `files` none can be made.

    Raises OSError if the kernel refuses it.
    """
    instructions = _instructions(os.uname().machine, files)
    if not instructions or sys.maxsize < 2**32:
        return
    filters = (_Filter * len(instructions))(*(_Filter(*instruction) for instruction in instructions))
    program = _Program(len(instructions), filters)
    if libc.prctl(_PR_SET_SECCOMP, _MODE_FILTER, ctypes.byref(program), 0, 0):
        number = ctypes.get_errno()
        raise OSError(number, f"seccomp: {os.strerror(number)}")


def _instructions(machine: str, files: bool) -> list[_Instruction]:
    if machine not in _MACHINES:
        return []
    column, architecture, clone = _MACHINES[machine]
    program: list[_Instruction] = [
        (_LOAD, 0, 0, _ARCH),
        (_EQUAL, 1, 0, architecture),
        (_RETURN, 0, 0, _KILL),  # another instruction set has other numbers
        (_LOAD, 0, 0, _NR),
        (_AT_LEAST, 0, 1, 0x40000000),  # x32 numbers
        (_RETURN, 0, 0, _KILL),
        (_EQUAL, 0, 1, _CLONE3),  # its flags lie in memory, where a filter cannot look; libraries then use clone
        (_RETURN, 0, 0, _ERRNO | _ENOSYS),
    ]
    for numbers in _NUMBERS.values():
        if numbers[column] >= 0:
            program += [(_EQUAL, 0, 1, numbers[column]), (_RETURN, 0, 0, _ERRNO | _EPERM)]
    if not files:
        program += _no_files(column)
    return [
        *program,
        (_EQUAL, 0, 3, clone),
        (_LOAD, 0, 0, _FIRST_ARGUMENT),
        (_ANY_BIT, 1, 0, _CLONE_THREAD),
        (_RETURN, 0, 0, _ERRNO | _EAGAIN),
        (_RETURN, 0, 0, _ALLOW),
    ]


def _no_files(column: int) -> list[_Instruction]:
    program: list[_Instruction] = []
    for numbers in _FILES.values():
        if numbers[column] >= 0:
            program += [(_EQUAL, 0, 1, numbers[column]), (_RETURN, 0, 0, _ERRNO | _ENOSPC)]
    for opens in _OPENS.values():
        if opens[column] >= 0:
            program += [
                (_EQUAL, 0, 4, opens[column]),
                (_LOAD, 0, 0, _FIRST_ARGUMENT + 8 * opens[2]),
                (_ANY_BIT, 0, 1, _CREATES),
                (_RETURN, 0, 0, _ERRNO | _ENOSPC),
                (_RETURN, 0, 0, _ALLOW),
            ]
    return program
