"""The same work for each contender, in its own language, and the command that runs it."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from bench.servers import Servers

PINNED = ("ansible-core==2.16.14", "mitogen==0.3.54", "pyinfra==3.10.0")
ANSIBLE = """\
[defaults]
inventory = {directory}/hosts.ini
host_key_checking = True
gathering = explicit
forks = {forks}
interpreter_python = /usr/bin/python3
stdout_callback = minimal
retry_files_enabled = False
{strategy}
[ssh_connection]
pipelining = True
ssh_args = -F none -o ControlMaster=auto -o ControlPersist=60s -o UserKnownHostsFile={known} -o IdentityFile={key}
"""
FLOOR = """
import asyncio, asyncssh, sys
key, known, *ports = sys.argv[1:]
async def one(port):
    options = dict(known_hosts=known, client_keys=[key], config=None, username="root")
    async with asyncssh.connect("127.0.0.1", int(port), **options) as link:
        await link.run("python3 -S -E -I -c pass")
async def main():
    places = asyncio.Semaphore(50)
    async def placed(port):
        async with places:
            await one(port)
    await asyncio.gather(*(placed(port) for port in ports))
asyncio.run(main())
"""
TEXT = "0123456789abcde\n" * 256  # 4 KB


@dataclass(frozen=True)
class Work:
    """How many resources of each kind a work has on each host."""

    lines: int = 0
    templates: int = 0
    copies: int = 0
    users: tuple[str, ...] = ()  # that are on this machine, since all hosts are this machine
    packages: tuple[str, ...] = ()


W1 = Work(8, 4, 4, ("daemon", "games"), ("bash", "tar"))
W4 = Work(lines=100)
W5 = Work()


def environment(directory: Path) -> dict[str, str]:
    """Return the environment of all contenders: a home directory of their own, and byte code that is kept."""
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    root = str(Path(__file__).parent.parent)
    return {**kept, "SLOTH_HOME": str(directory / "controller"), "PYTHONPATH": root, "ANSIBLE_CONFIG": "/dev/null"}


def venv() -> Path:
    """Return the bin directory of the peers' virtual environment, created once. Raises RuntimeError when pip fails."""
    digest = hashlib.sha256(" ".join(PINNED).encode()).hexdigest()[:12]
    place = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / f"sloth-bench-{digest}"
    if not (place / "ready").exists():
        subprocess.run([sys.executable, "-m", "venv", str(place)], check=True)
        done = subprocess.run([str(place / "bin" / "pip"), "install", "-q", *PINNED], capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(f"pip cannot install {' '.join(PINNED)}: {done.stderr[-500:]}")
        (place / "ready").touch()
    return place / "bin"


def write(directory: Path, servers: Servers, work: Work, ports: dict[str, int] | None = None) -> dict[str, list[str]]:
    """Write what each contender needs into `directory`; return name -> command."""
    used = ports or servers.ports
    (directory / "inventory.toml").write_text(servers.inventory(used))
    for number in range(work.templates):
        (directory / f"t{number}.j2").write_text(f"{{{{ word }}}} {number}\n")
    for number in range(work.copies):
        (directory / f"file{number}").write_text(TEXT + str(number))
    (directory / "site.sloth").write_text(_sloth(work))
    (directory / "play.yml").write_text(_ansible(work))
    (directory / "deploy.py").write_text(_pyinfra(work))
    hosts = ", ".join(
        f'("{name}", {{"ssh_hostname": "127.0.0.1", "ssh_port": {port}, "ssh_user": "root", "word": "w",'
        f' "ssh_key": "{servers.key}", "ssh_known_hosts_file": "{servers.known_hosts}"}})'
        for name, port in used.items()
    )
    (directory / "pyinfra_hosts.py").write_text(f"hosts = [{hosts}]\n")
    (directory / "hosts.ini").write_text(
        "".join(
            f"{name} ansible_host=127.0.0.1 ansible_port={port} ansible_user=root word=w\n"
            for name, port in used.items()
        )
    )
    floor = [sys.executable, "-c", FLOOR, str(servers.key), str(servers.known_hosts), *map(str, used.values())]
    return {"floor": floor, "sloth-runner": [*write_only(directory), "-e", "word=w"]}


def write_only(directory: Path) -> list[str]:
    """Return the command that runs the site in `directory`."""
    run = [sys.executable, "-m", "sloth", "run", "-i", str(directory / "inventory.toml")]
    return [*run, "-f", str(directory / "site.sloth"), "--output", "plain"]


def peers(directory: Path, servers: Servers, hosts: int) -> dict[str, tuple[list[str], dict[str, str]]]:
    """Return the commands of the peers (after write()), each with the environment variables it needs."""
    bin_directory = venv()
    found: dict[str, tuple[list[str], dict[str, str]]] = {}
    plugins = next((bin_directory.parent / "lib").glob("python3*/site-packages/ansible_mitogen/plugins/strategy"))
    for name, strategy in (
        ("ansible-core", ""),
        ("Mitogen", f"strategy_plugins = {plugins}\nstrategy = mitogen_linear"),
    ):
        config = directory / f"{name}.cfg"
        text = ANSIBLE.format(
            directory=directory, forks=hosts, strategy=strategy, known=servers.known_hosts, key=servers.key
        )
        config.write_text(text)
        command = [str(bin_directory / "ansible-playbook"), str(directory / "play.yml")]
        found[name] = (command, {"ANSIBLE_CONFIG": str(config)})
    pyinfra = [str(bin_directory / "pyinfra"), "-y", str(directory / "pyinfra_hosts.py"), str(directory / "deploy.py")]
    found["pyinfra"] = (pyinfra, {})
    return found


def _asked(work: Work, line: str, template: str, copy: str, user: str, package: str) -> list[str]:
    """Return all resources, each in one contender's language; {n} is a number, {name} a name."""
    counted = ((line, work.lines), (template, work.templates), (copy, work.copies))
    named = ((user, work.users), (package, work.packages))
    asked = [form.replace("{n}", str(n)) for form, count in counted for n in range(count)]
    return asked + [form.replace("{name}", name) for form, names in named for name in names]


def _sloth(work: Work) -> str:
    calls = _asked(
        work,
        'file.lineinfile({ path = "~/lines", line = "line {n}", create = true })',
        'file.template({ src = "t{n}.j2", dest = "~/template{n}" })',
        'file.copy({ src = "file{n}", dest = "~/file{n}" })',
        'user.create({ name = "{name}", shell = "/usr/sbin/nologin" })',
        'pkg.install("{name}")',
    ) or ['exec.run({ cmd = "true", read_only = true })']
    return "\n".join(["task({ name = 'bench', run = function()", *calls, "end })", ""])


def _ansible(work: Work) -> str:
    tasks = _asked(
        work,
        "lineinfile: {path: ~/lines, line: 'line {n}', create: true}",
        "template: {src: t{n}.j2, dest: ~/template{n}}",
        "copy: {src: file{n}, dest: ~/file{n}}",
        "user: {name: {name}, shell: /usr/sbin/nologin}",
        "apt: {name: {name}}",
    ) or ["raw: 'true'\n      changed_when: false"]
    return "\n".join(["- hosts: all", "  gather_facts: false", "  tasks:", *[f"    - {task}" for task in tasks], ""])


def _pyinfra(work: Work) -> str:
    operations = _asked(
        work,
        'files.line(path=home + "/lines", line="line {n}")',
        'files.template(src="t{n}.j2", dest=home + "/template{n}", word="w")',
        'files.put(src="file{n}", dest=home + "/file{n}")',
        'server.user(user="{name}", shell="/usr/sbin/nologin")',
        'apt.packages(packages=["{name}"])',
    ) or ['server.shell(commands=["true"])']
    head = """from pyinfra.operations import apt, files, server
from pyinfra import host
home = host.get_fact(__import__('pyinfra.facts.server', fromlist=['Home']).Home)"""
    return "\n".join([head, *operations, ""])
