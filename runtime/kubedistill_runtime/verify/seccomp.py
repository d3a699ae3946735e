"""A seccomp filter that needs no privilege: no network, no new processes, no hands on other processes or the kernel.

What model-written code has no use for fails with EPERM; the rest is allowed, for a list of everything that interpreters
and C++ runtimes call would break with each release of them. Numbers are from Linux' `unistd.h`, for x86-64 and arm64.
"""

import ctypes
import errno
import os
import platform
import struct

_NUMBERS: dict[str, tuple[int, int]] = {  # x86-64, arm64; -1: has no such call
    # network
    "socket": (41, 198),
    "socketpair": (53, 199),
    "connect": (42, 203),
    "bind": (49, 200),
    "listen": (50, 201),
    "accept": (43, 202),
    "accept4": (288, 242),
    "io_uring_setup": (425, 425),
    "io_uring_enter": (426, 426),
    "io_uring_register": (427, 427),
    # other processes
    "ptrace": (101, 117),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "process_madvise": (440, 440),
    "process_mrelease": (448, 448),
    "kcmp": (312, 272),
    "pidfd_open": (434, 434),
    "pidfd_getfd": (438, 438),
    "pidfd_send_signal": (424, 424),
    "tkill": (200, 130),
    "rt_sigqueueinfo": (129, 138),
    "rt_tgsigqueueinfo": (297, 240),
    "setpriority": (141, 140),
    "ioprio_set": (251, 30),
    "sched_setaffinity": (203, 122),
    "sched_setattr": (314, 274),
    "sched_setparam": (142, 118),
    "sched_setscheduler": (144, 119),
    "migrate_pages": (256, 238),
    "move_pages": (279, 239),
    # memory and messages that outlive their maker, or count on nobody's limit
    "shmget": (29, 194),
    "semget": (64, 190),
    "msgget": (68, 186),
    "mq_open": (240, 180),
    "memfd_create": (319, 279),
    "memfd_secret": (447, 447),
    # the kernel and the mount table
    "mount": (165, 40),
    "umount2": (166, 39),
    "pivot_root": (155, 41),
    "chroot": (161, 51),
    "move_mount": (429, 429),
    "open_tree": (428, 428),
    "fsopen": (430, 430),
    "fsconfig": (431, 431),
    "fsmount": (432, 432),
    "fspick": (433, 433),
    "mount_setattr": (442, 442),
    "unshare": (272, 97),
    "setns": (308, 268),
    "bpf": (321, 280),
    "perf_event_open": (298, 241),
    "userfaultfd": (323, 282),
    "fanotify_init": (300, 262),
    "keyctl": (250, 219),
    "add_key": (248, 217),
    "request_key": (249, 218),
    "open_by_handle_at": (304, 265),
    "name_to_handle_at": (303, 264),
    "personality": (135, 92),
    "syslog": (103, 116),
    "init_module": (175, 105),
    "finit_module": (313, 273),
    "delete_module": (176, 106),
    "kexec_load": (246, 104),
    "kexec_file_load": (320, 294),
    "reboot": (169, 142),
    "swapon": (167, 224),
    "swapoff": (168, 225),
    "sethostname": (170, 161),
    "setdomainname": (171, 162),
    "settimeofday": (164, 170),
    "clock_settime": (227, 112),
    "adjtimex": (159, 171),
    "clock_adjtime": (305, 266),
    "acct": (163, 89),
    "quotactl": (179, 60),
    "quotactl_fd": (443, 443),
    "iopl": (172, -1),
    "ioperm": (173, -1),
}
_FORKS = {"fork": (57, -1), "vfork": (58, -1)}
_CLONE, _CLONE3 = (56, 220), (435, 435)
_TO_SELF = {"kill": (62, 129), "tgkill": (234, 131)}
_PRLIMIT = (302, 261)

_AUDIT_ARCH = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
_CLONE_THREAD = 0x00010000
_X32_BIT = 0x40000000

_LOAD, _EQUAL, _AT_LEAST, _ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_ALLOW, _KILL, _ERRNO = 0x7FFF0000, 0x80000000, 0x00050000
_NR, _ARCH, _ARG0 = 0, 4, 16  # offsets in struct seccomp_data; the low half of an argument, as both are little-endian

_PR_SET_SECCOMP, _MODE_FILTER = 22, 2


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_void_p))


def supported() -> bool:
    """Whether there is a filter for this kernel and processor."""
    return platform.system() == "Linux" and platform.machine() in _AUDIT_ARCH


def build_filter(pid: int, machine: str, *, forks: bool) -> bytes:
    """The BPF program for the process `pid`. forks: allow child processes, for a compiler."""
    column = 0 if machine == "x86_64" else 1
    refuse = (_RETURN, 0, 0, _ERRNO | errno.EPERM)
    allow = (_RETURN, 0, 0, _ALLOW)
    code = [(_LOAD, 0, 0, _ARCH), (_EQUAL, 1, 0, _AUDIT_ARCH[machine]), (_RETURN, 0, 0, _KILL), (_LOAD, 0, 0, _NR)]
    if machine == "x86_64":
        code += [(_AT_LEAST, 0, 1, _X32_BIT), refuse]
    refused = _NUMBERS if forks else {**_NUMBERS, **_FORKS}
    for numbers in refused.values():
        if numbers[column] >= 0:
            code += [(_EQUAL, 0, 1, numbers[column]), refuse]
    if not forks:
        # Threads are clone() with a flag. clone3() hides its flags in memory; ENOSYS makes libc fall back to clone().
        code += [(_EQUAL, 0, 1, _CLONE3[column]), (_RETURN, 0, 0, _ERRNO | errno.ENOSYS)]
        code += [(_EQUAL, 0, 4, _CLONE[column]), (_LOAD, 0, 0, _ARG0), (_ANY_BIT, 0, 1, _CLONE_THREAD), allow, refuse]
        for numbers in _TO_SELF.values():
            code += [(_EQUAL, 0, 4, numbers[column]), (_LOAD, 0, 0, _ARG0), (_EQUAL, 0, 1, pid), allow, refuse]
        code += [(_EQUAL, 0, 5, _PRLIMIT[column]), (_LOAD, 0, 0, _ARG0), (_EQUAL, 1, 0, 0), (_EQUAL, 0, 1, pid)]
        code += [allow, refuse]
    code.append(allow)
    return b"".join(struct.pack("=HBBI", *instruction) for instruction in code)


def install_filter(libc: ctypes.CDLL, *, forks: bool) -> None:
    """Put this process under the filter, for good. PR_SET_NO_NEW_PRIVS must be set. Raises OSError."""
    program = ctypes.create_string_buffer(build_filter(os.getpid(), platform.machine(), forks=forks))
    length = (len(program) - 1) // 8
    pointer = ctypes.byref(_Program(length, ctypes.cast(program, ctypes.c_void_p).value))
    if libc.prctl(_PR_SET_SECCOMP, _MODE_FILTER, pointer, 0, 0) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"seccomp filter refused: {os.strerror(number)}")
