"""OpenSSH servers on loopback for the benchmarks. Each host has a port and a home directory of its own."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from pathlib import Path
from types import TracebackType

CONFIG = """\
ListenAddress 127.0.0.1
HostKey {directory}/host_key
AuthorizedKeysFile {directory}/client_key.pub
PidFile none
PermitRootLogin yes
PasswordAuthentication no
StrictModes no
UsePAM no
UseDNS no
MaxSessions 1000
MaxStartups 2000
LogLevel ERROR
Subsystem sftp internal-sftp
"""
MOST = 16  # ports that one sshd listens on


class Servers:
    """OpenSSH servers, one for each name; a context manager."""

    def __init__(self, names: list[str], directory: Path, together: int = 1) -> None:
        """directory: an empty one; together: how many hosts, each at its port, share an sshd (up to MOST).

        Raises RuntimeError without sshd or root, which sshd wants here.
        """
        found = shutil.which("sshd", path="/usr/sbin:/usr/local/sbin:" + os.environ.get("PATH", ""))
        if found is None or os.geteuid() != 0:
            raise RuntimeError("the benchmarks need root and OpenSSH's sshd")
        self._sshd = found
        self.names = names
        self.directory = directory
        self._together = min(together, MOST)
        self.ports: dict[str, int] = {}
        self.key = directory / "client_key"
        self.known_hosts = directory / "known_hosts"
        self._processes: dict[str, subprocess.Popen[bytes]] = {}

    def __enter__(self) -> Servers:
        Path("/run/sshd").mkdir(exist_ok=True)
        self.directory.mkdir(parents=True)
        for name in ("host_key", "client_key"):
            command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(self.directory / name)]
            subprocess.run(command, check=True)
        public = " ".join((self.directory / "host_key.pub").read_text().split()[:2])
        self.ports.update(zip(self.names, _free_ports(len(self.names)), strict=True))
        for first in range(0, len(self.names), self._together):
            group = self.names[first : first + self._together]
            lines = [f"Port {self.ports[name]}" for name in group] + [CONFIG.format(directory=self.directory)]
            for name in group:
                self.home(name).mkdir(parents=True)
                lines.append(f"Match LocalPort {self.ports[name]}\n    SetEnv HOME={self.home(name)}")
            config = self.directory / f"{group[0]}.conf"
            config.write_text("\n".join(lines) + "\n")
            self._processes[group[0]] = subprocess.Popen([self._sshd, "-D", "-f", str(config)])
        self.known_hosts.write_text("".join(f"[127.0.0.1]:{port} {public}\n" for port in self.ports.values()))
        for port in self.ports.values():
            _wait(port)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for process in self._processes.values():
            process.terminate()
        for process in self._processes.values():
            process.wait()

    def home(self, name: str) -> Path:
        """Return the home directory that the sessions of this host see."""
        return self.directory / "homes" / name

    def inventory(self, ports: dict[str, int] | None = None) -> str:
        """Return an inventory for sloth-runner. ports: those of proxies, instead of the servers' own."""
        lines = [
            "[defaults]", 'user = "root"', f'identity_file = "{self.key}"', f'known_hosts = "{self.known_hosts}"',
            "ssh_config = false",
        ]  # fmt: skip
        for name, port in (ports or self.ports).items():
            lines += [f"[hosts.{name}]", 'address = "127.0.0.1"', f"port = {port}"]
        return "\n".join(lines) + "\n"

    def know(self, port: int) -> None:
        """Trust the servers' host keys also at `port`, where a proxy forwards to them."""
        line = self.known_hosts.read_text().splitlines()[0].partition(" ")[2]
        with self.known_hosts.open("a") as file:
            file.write(f"[127.0.0.1]:{port} {line}\n")

    def cpu(self) -> float:
        """Return the seconds of processor time that the servers and all their sessions have used."""
        total = 0.0
        parents: dict[int, list[int]] = {}
        stats: dict[int, list[str]] = {}
        for entry in os.scandir("/proc"):
            if entry.name.isdigit():
                try:
                    text = Path(entry.path, "stat").read_text()
                except OSError:
                    continue
                fields = text.rpartition(") ")[2].split()
                stats[int(entry.name)] = fields
                parents.setdefault(int(fields[1]), []).append(int(entry.name))
        waiting = [process.pid for process in self._processes.values()]
        while waiting:
            pid = waiting.pop()
            waiting += parents.get(pid, [])
            total += sum(int(value) for value in stats[pid][11:15]) if pid in stats else 0
        return total / os.sysconf("SC_CLK_TCK")


def _free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


def _wait(port: int) -> None:
    for _ in range(200):
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            time.sleep(0.05)
    raise RuntimeError(f"the sshd on port {port} does not answer")
