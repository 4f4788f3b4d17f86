"""What the decoding process may use, and what it may not do.

| | Linux | macOS, BSD | Windows |
|---|---|---|---|
| processor time, files open and written, no core dump | yes | yes | no |
| memory by the size that the file claims | yes | no | no |
| no network, no other program, no file changed | yes, where libseccomp is there | no | no |
| image data that the file does not hold are found | yes, with glibc | no | no |
| a crash or a hang is an error here | yes | yes | yes |
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import sys
from pathlib import Path
from typing import Any

if sys.platform != "win32":
    import resource

MEGABYTE = 1 << 20
_M_PERTURB = -6
_SECONDS, _SECONDS_EACH = 60, 2e-6  # of processor time: for each file, and for each site or pixel that it claims
_OPEN_FILES, _WRITTEN = 64, MEGABYTE
_PART = 0.8  # of the machine's memory
_CLONE_THREAD = 0x10000
_FORBIDDEN = (
    *("socket", "socketpair", "connect", "bind", "listen", "accept", "accept4", "sendto", "sendmsg"),
    *("execve", "execveat", "fork", "vfork", "ptrace", "process_vm_readv", "process_vm_writev", "pidfd_open"),
    *("kill", "tkill", "tgkill", "pidfd_send_signal", "creat", "truncate", "link", "linkat", "symlink", "symlinkat"),
    *("unlink", "unlinkat", "rename", "renameat", "renameat2", "mkdir", "mkdirat", "rmdir", "mknod", "mknodat"),
    *("chmod", "fchmod", "fchmodat", "chown", "fchown", "lchown", "fchownat", "setxattr", "lsetxattr", "fsetxattr"),
    *("utime", "utimes", "utimensat", "futimesat", "mount", "umount2", "pivot_root", "chroot", "unshare", "setns"),
    *("bpf", "keyctl", "add_key", "request_key", "io_uring_setup", "perf_event_open", "userfaultfd", "openat2"),
)


def confine() -> None:
    """Give up, for good, what no decoder needs."""
    if sys.platform == "win32":
        return
    for kind, most in (
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_NOFILE, _OPEN_FILES),
        (resource.RLIMIT_FSIZE, _WRITTEN),
    ):
        hard = resource.getrlimit(kind)[1]
        most = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(kind, (most, most))
    _filter()


def _filter() -> None:
    """Let the kernel refuse network, programs, and changes to files (seccomp); where it cannot, go on without."""
    if sys.platform != "linux":
        return
    try:
        import pyseccomp
    except (ImportError, RuntimeError, OSError):  # the library, or the system's libseccomp under it, is missing
        return
    rules, denied = pyseccomp.SyscallFilter(pyseccomp.ALLOW), pyseccomp.ERRNO(errno.EPERM)

    def deny(name: str, *conditions: Any, action: int = denied) -> None:
        with contextlib.suppress(OSError, ValueError):  # this architecture has no such call
            rules.add_rule(action, name, *conditions)

    for name in _FORBIDDEN:
        deny(name)
    for name, place in (("open", 1), ("openat", 2)):
        for flag in (os.O_WRONLY, os.O_RDWR, os.O_CREAT, os.O_TRUNC):
            deny(name, pyseccomp.Arg(place, pyseccomp.MASKED_EQ, flag, flag))
    deny("clone", pyseccomp.Arg(0, pyseccomp.MASKED_EQ, _CLONE_THREAD, 0))  # threads yes, processes no
    deny("clone3", action=pyseccomp.ERRNO(errno.ENOSYS))  # its flags cannot be seen: the C library then uses clone
    try:
        rules.load()
    except OSError:  # the kernel, or the container around it, does not allow filters
        return


def allow(memory: int, claimed: int = 0) -> None:
    """Set what the next step may use from here on.

    Args:
        memory: bytes, above what the process has; never more than four fifths of the machine's.
        claimed: sites or pixels that the file says it has.
    """
    if sys.platform == "win32":
        return
    used = sum(resource.getrusage(resource.RUSAGE_SELF)[:2])
    _lower(resource.RLIMIT_CPU, int(used + _SECONDS + _SECONDS_EACH * claimed) + 1)
    if sys.platform == "linux":
        page, pages = os.sysconf("SC_PAGE_SIZE"), os.sysconf("SC_PHYS_PAGES")
        has = int(Path("/proc/self/statm").read_text().split()[0]) * page
        _lower(resource.RLIMIT_AS, has + min(memory, int(_PART * page * pages)))


def fill_memory(byte: int | None) -> None:
    """Let each byte of memory that is allocated from here on begin as `byte` (glibc's malloc only); None: as it may."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).mallopt(_M_PERTURB, 0 if byte is None else byte ^ 0xFF)


def _lower(kind: int, most: int) -> None:
    """Set a limit that the process can raise again, within what it was given."""
    hard = resource.getrlimit(kind)[1]
    resource.setrlimit(kind, (most if hard == resource.RLIM_INFINITY else min(most, hard), hard))
