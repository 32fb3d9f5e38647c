"""An inventory of Ansible, over real connections: address, port, user, key, host keys and a jump host."""

from __future__ import annotations

import asyncio
from pathlib import Path

from sloth.transport.loopback import LoopbackFleet
from tests.support.command import sloth

HOSTS = """\
[web]
w1 port_of=web1
w2 port_of=web2
[web:vars]
ansible_host="{{{{ address }}}}"
ansible_port="{{{{ ports[port_of] }}}}"
ansible_ssh_private_key_file={key}
ansible_ssh_common_args='-F none -o UserKnownHostsFile={known} -o ControlPersist=60s'
greeting="hello {{{{ inventory_hostname }}}}"
"""


async def test_hosts_are_reached_as_ansible_reaches_them(servers: LoopbackFleet, tmp_path: Path) -> None:
    ports = ", ".join(f"{name}: {servers.ports[name]}" for name in list(servers.ports)[:2])
    first, second = list(servers.ports)[:2]
    text = HOSTS.format(key=servers.key_file, known=servers.known_hosts)
    (tmp_path / "hosts").write_text(text.replace("=web1", f"={first}").replace("=web2", f"={second}"))
    (tmp_path / "group_vars").mkdir()
    (tmp_path / "group_vars" / "all.yml").write_text(f"address: 127.0.0.1\nports: {{{ports}}}\n")
    (tmp_path / "t.j2").write_text("{{ greeting }} at {{ ansible_port }}\n")
    (tmp_path / "site.sloth").write_text(
        'task({name = "t", hosts = "@web", run = function() file.template({src = "t.j2", dest = "~/greeting"}) end})\n'
    )
    done = await asyncio.to_thread(sloth, tmp_path, "run", "-i", "hosts", "-f", "site.sloth")
    assert done.returncode == 0, done.stdout + done.stderr
    for host, name in (("w1", first), ("w2", second)):
        assert (servers.homes[name] / "greeting").read_text() == f"hello {host} at {servers.ports[name]}\n"
