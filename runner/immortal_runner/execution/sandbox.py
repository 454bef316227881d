"""The process between the runner and a stranger's code: it closes the room, starts the code, and leaves nothing behind.

It runs as a script of its own (``python -I -S sandbox.py``), with the standard library alone, and reads what to do as
one JSON object from its standard input. Where the kernel lets it, the code gets a room of its own: it sees its files as
``/var/task``, ``/opt`` and ``/tmp``, finds nothing of the machine but its programs, and all its processes die with it.
Elsewhere, as in a Fargate container, it gets the user of a Lambda function and a supervisor that kills what it leaves.
"""

import ctypes
import json
import os
import resource
import select
import signal
import sys
from pathlib import Path
from typing import Any, NoReturn

_libc = ctypes.CDLL(None, use_errno=True)

_CLONE_NEWNS, _CLONE_NEWUSER, _CLONE_NEWPID = 0x00020000, 0x10000000, 0x20000000
_MS_RDONLY, _MS_REMOUNT, _MS_BIND, _MS_REC, _MS_PRIVATE = 1, 32, 4096, 16384, 1 << 18
_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER, _PR_SET_NO_NEW_PRIVS = 1, 36, 38

_SHARED = ("bin", "dev", "etc", "lib", "lib32", "lib64", "libx32", "sbin", "sys", "usr", "run/systemd/resolve")
"""What the code finds of the machine, below ``/``: programs, libraries, devices and how names are resolved."""

_NAME_FILES = ("passwd", "group", "hosts")
_LOOPBACK_NAMES = "127.0.0.1 sandbox.localdomain sandbox"
"""What extensions call the machine when they ask for telemetry. Source: Lambda developer guide, "Telemetry API"."""

_FIRST_TO_DIE = "1000"
"""The code's ``oom_score_adj``: where memory runs out, the kernel takes the code, never the runner beside it."""

_CANNOT_START = 126


def main() -> NoReturn:
    """Do what the standard input says."""
    order = json.loads(sys.stdin.buffer.read())
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.set_inheritable(0, True)  # noqa: FBT003  # positional only
    os.set_inheritable(order["lifeline"], False)  # noqa: FBT003  # the code could hold it open, and outlive the runner
    if order["room"]:
        _run_in_room(order)
    _libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    _supervise(order, _start_code(order))


def _run_in_room(order: dict[str, Any]) -> NoReturn:
    """Make namespaces, and in them a first process that supervises the code."""
    user, group = os.getuid(), os.getgid()
    _check(_libc.unshare(_CLONE_NEWNS | _CLONE_NEWPID | (_CLONE_NEWUSER if user else 0)), "unshare")
    if user:
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"{order['uid']} {user} 1")
        Path("/proc/self/gid_map").write_text(f"{order['gid']} {group} 1")
    said, saying = os.pipe()
    first = os.fork()
    if first == 0:
        _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        os.close(said)
        _close_room(order)
        _supervise(order, _start_code(order), saying)
    os.close(saying)
    _forward_signals(first)
    with os.fdopen(said, "rb") as pipe:
        status = pipe.read()
    os.waitpid(first, 0)
    _end_as(int(status) if status else -signal.SIGKILL)


def _start_code(order: dict[str, Any]) -> int:
    """Start the code as its own user, in its own session."""
    code = os.fork()
    if code:
        return code
    try:
        os.setsid()
        _offer_to_oom_killer()
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGPIPE):
            signal.signal(number, signal.SIG_DFL)
        resource.setrlimit(resource.RLIMIT_NOFILE, (order["open_files"], order["open_files"]))
        if os.getuid() == 0 and order["uid"]:
            os.setgroups([])
            os.setgid(order["gid"])
            os.setuid(order["uid"])
        # After the change of user, which takes it off again: whoever kills the sandbox kills the code.
        _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        _check(_libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "give up new privileges")  # no setuid program helps
        os.umask(0o022)
        os.chdir(order["cwd"])
        os.execve(order["argv"][0], order["argv"], order["env"])  # noqa: S606  # replacing this process is the point
    except OSError as error:
        os.write(2, f"cannot start {order['argv'][0]}: {error.strerror}\n".encode())
    os._exit(_CANNOT_START)


def _offer_to_oom_killer() -> None:
    try:
        Path("/proc/self/oom_score_adj").write_text(_FIRST_TO_DIE)
    except OSError:
        return  # a kernel without it takes whom it takes


def _supervise(order: dict[str, Any], code: int, saying: int | None = None) -> NoReturn:
    """Wait for the code's end, or for the end of whoever started us; then leave nothing behind."""
    for descriptor in (1, 2):
        os.dup2(0, descriptor)  # only the code itself may hold its output open
    wake, waking = os.pipe()
    os.set_blocking(waking, False)  # positional only
    signal.set_wakeup_fd(waking)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    _forward_signals(code)
    lifeline = order["lifeline"]
    status: int | None = None
    while status is None:
        ready, _, _ = select.select([wake, lifeline], [], [], 0 if _gone(code) else None)
        status = _reap(code)
        if lifeline in ready and status is None:
            os.kill(code, signal.SIGKILL)
            status = -signal.SIGKILL
        if wake in ready:
            os.read(wake, 512)
    if saying is not None:
        os.write(saying, str(status).encode())
        os._exit(0)  # the first process of the namespace takes all others with it
    _kill_descendants()
    _end_as(status)


def _gone(code: int) -> bool:
    """Whether the code ended before we listened for it."""
    return os.waitid(os.P_PID, code, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def _reap(code: int) -> int | None:
    """Collect the dead; give the code's own exit status once it is among them."""
    status = None
    while True:
        try:
            process, raw = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return status
        if process == 0:
            return status
        if process == code:
            status = os.waitstatus_to_exitcode(raw)


def _kill_descendants() -> None:
    """Kill what the code left running: as their subreaper we inherit orphans, however they detached themselves."""
    while children := _children():
        for child in children:
            os.kill(child, signal.SIGKILL)
        for child in children:
            os.waitpid(child, 0)


def _children() -> list[int]:
    own = str(os.getpid())
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            if fields[1] == own:
                found.append(int(entry.name))
    return found


def _forward_signals(process: int) -> None:
    def forward(number: int, _frame: object) -> None:
        try:
            os.kill(process, number)
        except ProcessLookupError:
            return

    signal.signal(signal.SIGTERM, forward)
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _end_as(status: int) -> NoReturn:
    """End as the code ended, so that whoever waits for us sees its exit status or its signal."""
    if status < 0:
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        if -status not in (signal.SIGKILL, signal.SIGSTOP):
            signal.signal(-status, signal.SIG_DFL)
        os.kill(os.getpid(), -status)
    os._exit(status)


def _close_room(order: dict[str, Any]) -> None:
    """Make a root of its own and step into it."""
    root = Path(order["root"])
    _check(_libc.mount(b"none", b"/", None, _MS_REC | _MS_PRIVATE, None), "make mounts private")
    _check(_libc.mount(b"tmpfs", bytes(root), b"tmpfs", 0, b"mode=755"), "mount a root")
    for name in _SHARED:
        _share(Path("/") / name, root / name)
    _write_names(order, root)
    for source, target, read_only in order["binds"]:
        _bind(Path(source), root / target.lstrip("/"), read_only=read_only)
    (root / "proc").mkdir()
    _check(_libc.mount(b"proc", bytes(root / "proc"), b"proc", 0, None), "mount /proc")
    os.chroot(root)
    os.chdir("/")


def _share(source: Path, target: Path) -> None:
    if source.is_symlink():
        target.symlink_to(source.readlink())
    elif source.exists():
        _bind(source, target, read_only=False)


def _write_names(order: dict[str, Any], root: Path) -> None:
    """Give the user a name: without one, ``getpass.getuser()`` and ``Path.home()`` fail. Name the machine too."""
    lines = {**order, "hosts": _LOOPBACK_NAMES}
    for name in _NAME_FILES:
        machines = Path("/etc", name)
        if machines.is_file():
            own = root / "var" / f".{name}"
            own.parent.mkdir(exist_ok=True)
            own.write_text(f"{machines.read_text().rstrip()}\n{lines[name]}\n")
            own.chmod(0o644)
            _bind(own, root / "etc" / name, read_only=True)


def _bind(source: Path, target: Path, *, read_only: bool) -> None:
    if source.is_dir():
        target.mkdir(parents=True, exist_ok=True)
    else:
        target.parent.mkdir(parents=True, exist_ok=True)
        if not target.exists():
            target.touch()
    _check(_libc.mount(bytes(source), bytes(target), None, _MS_BIND | _MS_REC, None), f"bind {target}")
    if read_only:
        kept = os.statvfs(target).f_flag & 0b1110  # what a user namespace may not take off: nosuid, nodev, noexec
        flags = _MS_BIND | _MS_REMOUNT | _MS_RDONLY | kept
        _check(_libc.mount(b"none", bytes(target), None, flags, None), f"make {target} read-only")


def _check(result: int, what: str) -> None:
    if result != 0:
        number = ctypes.get_errno()
        os.write(2, f"sandbox: {what}: {os.strerror(number)}\n".encode())
        os._exit(_CANNOT_START)


if __name__ == "__main__":
    main()
