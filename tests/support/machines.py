"""Real Debian hosts with systemd and sshd on loopback addresses: one cached root, and an overlay for each host."""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

SUITE = "bookworm"
PACKAGES = "systemd,systemd-sysv,openssh-server,python3,sudo,dbus,cron,git"
MASKED = (
    *(f"systemd-{name}.service" for name in ("remount-fs", "udevd", "logind", "networkd", "resolved", "timesyncd")),
    *("apt-daily.timer", "apt-daily-upgrade.timer", "getty.target", "console-getty.service"),
)
REBOOT = 133  # the exit status of an nspawn whose host wants to be started again
READY = 90.0  # seconds that a host has to boot
TOOLS = ("debootstrap", "systemd-nspawn", "mount", "ssh-keygen")


def cannot() -> str:
    """Return why no fleet can run on this machine, or ""."""
    if os.geteuid() != 0:
        return "the fleet needs root"
    missing = [tool for tool in TOOLS if shutil.which(tool) is None]
    return f"the fleet needs {', '.join(missing)}" if missing else ""


def run(*command: str) -> str:
    """Run a command and return its output; on failure the output is in the RuntimeError."""
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}: exit code {done.returncode}\n{done.stdout[-3000:]}")
    return done.stdout


def mirror() -> str:
    """Return the Debian mirror that this machine itself uses."""
    for path in [Path("/etc/apt/sources.list"), *sorted(Path("/etc/apt/sources.list.d").glob("*"))]:
        text = path.read_text() if path.is_file() else ""
        found = re.search(r"^(?:deb\s+(?:\[[^]]*\]\s+)?|URIs:\s*)(\S+)", text, re.MULTILINE)
        if found:
            return found[1]
    raise RuntimeError("this machine names no Debian mirror")


def base(cache: Path) -> Path:
    """Return the root that all hosts share. It is built once, which takes a minute or two, and kept under `cache`."""
    recipe = hashlib.sha256(f"1 {SUITE} {PACKAGES} {MASKED}".encode()).hexdigest()[:12]
    root = cache / f"base-{recipe}"
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if root.is_dir():
            return root
        building = cache / "building"
        shutil.rmtree(building, ignore_errors=True)
        run("debootstrap", "--variant=minbase", f"--include={PACKAGES}", SUITE, str(building), mirror())
        units = building / "etc/systemd/system"
        for unit in MASKED:
            (units / unit).unlink(missing_ok=True)
            (units / unit).symlink_to("/dev/null")
        for name in building.glob("etc/ssh/ssh_host_*"):
            name.unlink()
        run("chroot", str(building), "useradd", "-m", "-s", "/bin/bash", "deploy")
        run("chroot", str(building), "useradd", "-m", "-s", "/bin/bash", "ops")
        run("chroot", str(building), "sh", "-c", "echo ops:secret | chpasswd")
        (building / "etc/sudoers.d/fleet").write_text("deploy ALL=(ALL) NOPASSWD: ALL\nops ALL=(ALL) ALL\n")
        building.rename(root)
    return root


class Fleet:
    """A context manager: the hosts are up when it is entered, and removed when it is left."""

    def __init__(self, directory: Path, names: Sequence[str] = ("host1", "host2", "host3", "host4", "host5")) -> None:
        """directory: for keys, overlays and logs; on a file system that can hold an overlay's upper layer."""
        self.directory = directory
        # Each worker of pytest-xdist has a fleet of its own.
        worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
        self.addresses = {name: f"127.0.{1 + worker}.{number}" for number, name in enumerate(names, 1)}
        self.roots = {name: directory / name / "root" for name in names}
        self.key = directory / "id_ed25519"
        self.known_hosts = directory / "known_hosts"
        self._machines: dict[str, subprocess.Popen[bytes]] = {}
        self._is_over = threading.Event()
        self._keeper = threading.Thread(target=self._keep, daemon=True)

    def __enter__(self) -> Fleet:
        cache = Path(os.environ.get("SLOTH_FLEET_DIR", "/var/cache/sloth-fleet"))
        root = base(cache)
        self.directory.mkdir(parents=True, exist_ok=True)
        run("mount", "-t", "tmpfs", "-o", "size=2g,mode=0755", "tmpfs", str(self.directory))
        run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(self.key))
        try:
            for name in self.addresses:
                self._boot(name, root)
            self.known_hosts.write_text("".join(self._ready(name) for name in self.addresses))
        except BaseException:
            self._down()
            raise
        return self

    def __exit__(self, *exc: object) -> None:
        self._down()

    def _boot(self, name: str, lower: Path) -> None:
        place = self.directory / name
        for part in ("upper", "work", "root"):
            (place / part).mkdir(parents=True)
        layers = f"lowerdir={lower},upperdir={place}/upper,workdir={place}/work"
        root = self.roots[name]
        run("mount", "-t", "overlay", "overlay", "-o", layers, str(root))
        (root / "etc/hostname").write_text(f"{name}\n")
        (root / "etc/hosts").write_text(f"127.0.0.1 localhost\n127.0.1.1 {name}\n")
        (root / "etc/machine-id").write_text("")
        # Nobody is shut out while the host boots: _booted() waits for its end, also when a unit has failed.
        (root / "etc/tmpfiles.d/systemd-nologin.conf").symlink_to("/dev/null")
        run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(root / "etc/ssh/ssh_host_ed25519_key"))
        (root / "etc/ssh/sshd_config.d/fleet.conf").write_text(
            f"ListenAddress {self.addresses[name]}\nUseDNS no\nMaxStartups 100\nPermitRootLogin prohibit-password\n"
        )
        public = self.key.with_suffix(".pub").read_text()
        for home, owner in (("root", 0), ("home/deploy", 1000), ("home/ops", 1001)):
            directory = root / home / ".ssh"
            directory.mkdir(mode=0o700, exist_ok=True)
            (directory / "authorized_keys").write_text(public)
            for path in (directory, directory / "authorized_keys"):
                os.chown(path, owner, owner)
        self._start(name)

    def _start(self, name: str) -> None:
        root = self.roots[name]
        log = (self.directory / name / "console.log").open("ab")
        self._machines[name] = subprocess.Popen(
            [
                # It dies with us, however we end.
                "setpriv", "--pdeathsig", "TERM", "systemd-nspawn", "-q", "-D", str(root), "--register=no",
                "--keep-unit", "--boot", f"--machine={name}", "--resolv-conf=off", "--timezone=off",
            ],
            stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
        )  # fmt: skip
        log.close()

    def may_reboot(self) -> None:
        """Start hosts again that reboot, from now on: nspawn leaves that to what has started it."""
        if not self._keeper.is_alive():
            self._keeper.start()

    def _keep(self) -> None:
        # It lives as long as the fleet: what a thread has started dies with the thread (--pdeathsig).
        while not self._is_over.wait(0.1):
            for name, machine in list(self._machines.items()):
                if machine.poll() == REBOOT:
                    self._start(name)

    def _ready(self, name: str) -> str:
        """Wait until the host accepts logins, and return its line for known_hosts."""
        end = time.monotonic() + READY
        while True:
            if self._booted(name):
                break
            if time.monotonic() > end or self._machines[name].poll() is not None:
                console = (self.directory / name / "console.log").read_text(errors="replace")
                raise RuntimeError(f"{name} does not boot; its console:\n{console[-3000:]}")
            time.sleep(0.1)
        public = (self.roots[name] / "etc/ssh/ssh_host_ed25519_key.pub").read_text().split()
        return f"{self.addresses[name]} {public[0]} {public[1]}\n"

    def _booted(self, name: str) -> bool:
        """Return whether systemd reports the host as up. Until then sshd may restart and pam_nologin refuse logins."""
        options = ["BatchMode=yes", "ConnectTimeout=5", "StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null"]
        command = ["ssh", "-F", "none", "-i", str(self.key), *(word for option in options for word in ("-o", option))]
        command += [f"deploy@{self.addresses[name]}", "systemctl is-system-running --wait"]
        try:
            done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=30)
        except subprocess.TimeoutExpired:
            return False
        return done.stdout.strip() in ("running", "degraded")

    def _down(self) -> None:
        self._is_over.set()
        for machine in self._machines.values():
            machine.send_signal(signal.SIGTERM)
        for machine in self._machines.values():
            try:
                machine.wait(20)
            except subprocess.TimeoutExpired:
                machine.kill()
                machine.wait()
        self._machines.clear()
        for root in self.roots.values():
            subprocess.run(["umount", "-l", str(root)], stderr=subprocess.DEVNULL)
        subprocess.run(["umount", "-l", str(self.directory)], stderr=subprocess.DEVNULL)

    def shell(self, name: str, script: str, stdin: bytes = b"") -> str:
        """Run a script on a host as root and return what it prints; an AssertionError holds what went wrong."""
        argv = ["ssh", "-F", "none", "-i", str(self.key), "-o", f"UserKnownHostsFile={self.known_hosts}"]
        argv += ["-o", "BatchMode=yes", f"root@{self.addresses[name]}", script]
        done = subprocess.run(argv, input=stdin, capture_output=True, timeout=120)
        assert done.returncode == 0, f"{script}\n{done.stdout.decode()}{done.stderr.decode()}"
        return done.stdout.decode()

    def inventory(self, user: str = "deploy", become: str = "true") -> str:
        """Return the fleet's inventory as TOML."""
        lines = [
            "[defaults]", f'user = "{user}"', f"become = {become}", f'identity_file = "{self.key}"',
            f'known_hosts = "{self.known_hosts}"', "ssh_config = false",
        ]  # fmt: skip
        for name, address in self.addresses.items():
            lines += [f"[hosts.{name}]", f'address = "{address}"']
        return "\n".join(lines) + "\n"

    def tree(self, name: str) -> dict[str, tuple[int, int, int, str]]:
        """Return what has changed on a host since it was created: mode, owner, group and hash of each of its files.

        A removed file is included, as a whiteout. Logs and run-time state are left out.
        """
        root = self.directory / name / "upper"
        return {str(path.relative_to(root)): _look(path) for path in _walk(root)}


def _walk(root: Path) -> Iterator[Path]:
    skipped = {"proc", "sys", "dev", "run", "tmp", "var/log", "var/lib/systemd", "var/tmp", "var/cache"}
    for directory, names, files in os.walk(root):
        inside = Path(directory).relative_to(root)
        names[:] = [name for name in names if str(inside / name) not in skipped and name != ".sloth-runner"]
        yield from (Path(directory) / name for name in (*names, *files))


def _look(path: Path) -> tuple[int, int, int, str]:
    info = path.lstat()
    data = os.readlink(path).encode() if path.is_symlink() else path.read_bytes() if path.is_file() else b""
    return info.st_mode, info.st_uid, info.st_gid, hashlib.sha256(data).hexdigest()
