"""The parts of the jail that can be looked at without entering it."""

import contextlib
import errno
import os
import struct
from pathlib import Path

import pytest

from kubedistill_runtime.verify import folder
from kubedistill_runtime.verify.folder import remove_tree, used_bytes
from kubedistill_runtime.verify.jail import readable
from kubedistill_runtime.verify.seccomp import build_filter

ALLOW, REFUSE, KILL = 0x7FFF0000, 0x00050000 | errno.EPERM, 0x80000000
NO_SUCH_CALL = 0x00050000 | errno.ENOSYS
PID = 4711
THREAD, NO_THREAD = 0x003D0F00, 0x01200011
ARCH = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}


def decide(machine, number, argument=0, *, arch=None, forks=False):
    """Run the filter as the kernel would."""
    code = list(struct.iter_unpack("=HBBI", build_filter(PID, machine, forks=forks)))
    data = {0: number, 4: arch or ARCH[machine], 16: argument}
    value, position = 0, 0
    while True:
        operation, yes, no, operand = code[position]
        position += 1
        match operation:
            case 0x20:
                value = data[operand]
            case 0x15:
                position += yes if value == operand else no
            case 0x35:
                position += yes if value >= operand else no
            case 0x45:
                position += yes if value & operand else no
            case 0x06:
                return operand


@pytest.mark.parametrize(
    ("machine", "number", "argument", "decision"),
    [
        ("x86_64", 0, 0, ALLOW),  # read
        ("x86_64", 41, 2, REFUSE),  # socket
        ("x86_64", 57, 0, REFUSE),  # fork
        ("x86_64", 58, 0, REFUSE),  # vfork
        ("x86_64", 56, THREAD, ALLOW),  # clone
        ("x86_64", 56, NO_THREAD, REFUSE),
        ("x86_64", 435, 0, NO_SUCH_CALL),  # clone3
        ("x86_64", 59, 0, ALLOW),  # execve
        ("x86_64", 62, PID, ALLOW),  # kill
        ("x86_64", 62, 1, REFUSE),
        ("x86_64", 62, 0xFFFFFFFF, REFUSE),
        ("x86_64", 234, PID, ALLOW),  # tgkill
        ("x86_64", 302, 0, ALLOW),  # prlimit64
        ("x86_64", 302, PID, ALLOW),
        ("x86_64", 302, 1, REFUSE),
        ("x86_64", 101, 0, REFUSE),  # ptrace
        ("x86_64", 425, 0, REFUSE),  # io_uring_setup
        ("x86_64", 0x40000000 | 41, 0, REFUSE),  # socket by the x32 interface
        ("aarch64", 63, 0, ALLOW),  # read
        ("aarch64", 198, 2, REFUSE),  # socket
        ("aarch64", 220, THREAD, ALLOW),  # clone
        ("aarch64", 220, NO_THREAD, REFUSE),
        ("aarch64", 435, 0, NO_SUCH_CALL),
        ("aarch64", 221, 0, ALLOW),  # execve
        ("aarch64", 129, PID, ALLOW),  # kill
        ("aarch64", 129, 1, REFUSE),
        ("aarch64", 261, 1, REFUSE),  # prlimit64
        ("aarch64", 117, 0, REFUSE),  # ptrace
    ],
)
def test_the_filter_decides_as_it_should(machine, number, argument, decision):
    assert decide(machine, number, argument) == decision


def test_a_foreign_interface_to_the_kernel_is_deadly():
    assert decide("x86_64", 41, arch=0x40000003) == KILL  # socketcall's i386


def test_a_compiler_may_fork_and_still_has_no_network():
    assert decide("x86_64", 57, forks=True) == ALLOW
    assert decide("x86_64", 56, NO_THREAD, forks=True) == ALLOW
    assert decide("x86_64", 41, forks=True) == REFUSE


def test_the_whole_file_system_is_never_readable():
    assert os.sep not in map(str, readable())


def test_a_very_deep_tree_is_measured_and_removed(tmp_path):
    top = tmp_path / "top"
    top.mkdir()
    with contextlib.chdir(top):
        for _ in range(1500):
            Path("a" * 50).mkdir()
            os.chdir("a" * 50)

    assert used_bytes(top, 1 << 20) == 1 << 20
    remove_tree(top)

    assert not top.exists()


def test_locked_folders_links_and_lookalikes_are_removed_and_nothing_behind_a_link(tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "kept").write_text("1")
    top = tmp_path / "top"
    (top / "locked" / "inner").mkdir(parents=True)
    (top / "link").symlink_to(outside)
    (top / "loop").symlink_to(top)
    (top / "locked" / "inner" / "file").write_text("1")
    (top / "locked" / "inner").chmod(0)
    (top / "locked").chmod(0)
    top.chmod(0)

    remove_tree(top)

    assert not top.exists()
    assert (outside / "kept").read_text() == "1"


def test_a_folder_with_too_many_files_counts_as_full(tmp_path, monkeypatch):
    for i in range(20):
        (tmp_path / str(i)).touch()
    assert used_bytes(tmp_path, 1 << 40) < 1 << 20

    monkeypatch.setattr(folder, "MAX_ENTRIES", 10)

    assert used_bytes(tmp_path, 1 << 40) == 1 << 40


def test_removing_what_is_not_there_is_no_error(tmp_path):
    remove_tree(tmp_path / "nothing")
