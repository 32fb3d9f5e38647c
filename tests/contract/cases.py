"""One case for every resource: what is asked for, what must be there before, and how somebody spoils it by hand."""

# ruff: noqa: E501  scripts and keys read better on one line
from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

SECRET = "Xy7-marker-of-a-secret"
HASH = "$6$marker$" + "a" * 86


@dataclass(frozen=True)
class Case:
    """before: a shell script run first; spoil: one that undoes a part of it; again: what the call then still leaves."""

    args: dict[str, Any]
    spoil: str
    before: str = ""
    secrets: dict[str, str] = field(default_factory=dict)  # values that may be seen nowhere, by argument


UNIT = "printf '[Service]\\nExecStart=/bin/sleep infinity\\n[Install]\\nWantedBy=multi-user.target\\n'"
MADE = UNIT + " > /etc/systemd/system/NAME.service; systemctl daemon-reload"

CASES = {
    "file.absent": Case({"path": "/srv/absent"}, "mkdir /srv/absent; touch /srv/absent/x", "mkdir -p /srv/absent"),
    "file.blockinfile": Case(
        {"path": "/etc/block.conf", "block": "a = 1\nb = 2", "create": True}, "sed -i s/1/7/ /etc/block.conf"
    ),
    "file.copy": Case(
        {"content": "text\n", "dest": "/etc/copy.conf", "mode": "0640", "owner": "deploy"}, "echo more >> /etc/copy.conf"
    ),
    "file.directory": Case({"path": "/srv/dir/sub", "mode": "0750"}, "chmod 755 /srv/dir/sub"),
    "file.lineinfile": Case(
        {"path": "/etc/line.conf", "line": "x = 1", "regexp": "^x"}, "echo 'x = 2' > /etc/line.conf",
        "printf 'a\\nx = 0\\nb' > /etc/line.conf",
    ),
    "file.link": Case({"path": "/srv/link", "src": "/etc/hosts"}, "ln -sfn /etc/passwd /srv/link"),
    "file.replace": Case(
        {"path": "/etc/replace.conf", "regexp": "old", "replace": "new"}, "echo old >> /etc/replace.conf",
        "echo 'old and old' > /etc/replace.conf",
    ),
    "file.template": Case(
        {"src": "case.j2", "dest": "/etc/template.conf", "vars": {"word": "hello"}}, "rm /etc/template.conf"
    ),
    "group.create": Case({"name": "contract", "gid": 7777}, "groupmod -g 7778 contract"),
    "group.delete": Case({"name": "nogroup2"}, "groupadd nogroup2", "groupadd nogroup2"),
    "user.create": Case(
        {"name": "case1", "shell": "/bin/sh", "groups": ["adm"], "password": HASH, "comment": "Case One"},
        "usermod -s /bin/bash -p x -G '' case1",
        secrets={"password": HASH},
    ),
    "user.modify": Case(
        {"name": "case2", "comment": "changed", "password": HASH}, "usermod -c other -p x case2", "useradd case2",
        secrets={"password": HASH},
    ),
    "user.delete": Case({"name": "case3", "remove": True}, "useradd -m case3", "useradd -m case3"),
    "systemd.unit": Case(
        {"name": "case4", "content": "[Service]\nExecStart=/bin/true\n"},
        "echo '# by hand' >> /etc/systemd/system/case4.service",
    ),
    "systemd.enable": Case({"name": "case5"}, "systemctl disable case5", MADE.replace("NAME", "case5")),
    "systemd.disable": Case(
        {"name": "case6", "now": True}, "systemctl enable --now case6",
        MADE.replace("NAME", "case6") + "; systemctl enable --now case6",
    ),
    "systemd.start": Case({"name": "case7"}, "systemctl stop case7", MADE.replace("NAME", "case7")),
    "systemd.stop": Case(
        {"name": "case8"}, "systemctl start case8", MADE.replace("NAME", "case8") + "; systemctl start case8"
    ),
    "systemd.mask": Case({"name": "proc-sys-fs-binfmt_misc.automount"}, "systemctl unmask proc-sys-fs-binfmt_misc.automount"),
    "systemd.unmask": Case({"name": "e2scrub_all.timer"}, "systemctl mask e2scrub_all.timer", "systemctl mask e2scrub_all.timer"),
    "systemd.service": Case(
        {"name": "case9", "enabled": True, "state": "started"}, "systemctl disable --now case9",
        MADE.replace("NAME", "case9"),
    ),
    "pkg.install": Case({"name": ["sloth-one", "sloth-two"]}, "dpkg --purge sloth-two"),
    "pkg.remove": Case(
        {"name": "sloth-three"}, "apt-get install -qqy sloth-three", "apt-get install -qqy sloth-three"
    ),
    "ssh.authorized_key": Case(
        {"user": "deploy", "key": "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGrShxPYuoCAF5bnDKQ1kQmJwxJ8s1cZ0lQJZq3yHcAr contract"},
        "sed -i /contract/d ~deploy/.ssh/authorized_keys",
    ),
    "ssh.config": Case(
        {"user": "deploy", "host": "production", "options": {"Hostname": "192.0.2.1", "User": "deploy", "Port": 22}},
        "sed -i s/192.0.2.1/192.0.2.9/ ~deploy/.ssh/config",
    ),
    "ssh.known_hosts": Case(
        {
            "name": "production.example",
            "key": "production.example ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGrShxPYuoCAF5bnDKQ1kQmJwxJ8s1cZ0lQJZq3yHcAr",
            "path": "/etc/ssh/ssh_known_hosts",
        },
        ": > /etc/ssh/ssh_known_hosts",
    ),
    "cron.job": Case(
        {"name": "nightly", "minute": "17", "hour": "3", "job": "/bin/true", "user": "deploy"}, "crontab -r -u deploy"
    ),
    "sysctl.set": Case(
        {"name": "kernel.panic", "value": "10", "sysctl_set": False}, "sed -i s/10/66/ /etc/sysctl.d/99-sloth.conf"
    ),
    "mount.present": Case({"path": "/mnt/case", "src": "tmpfs", "fstype": "tmpfs", "opts": "size=64k"}, "umount /mnt/case"),
    "mount.absent": Case(
        {"path": "/mnt/gone"}, "mkdir -p /mnt/gone; mount -t tmpfs tmpfs /mnt/gone",
        "mkdir -p /mnt/gone; mount -t tmpfs tmpfs /mnt/gone",
    ),
    "archive.unpack": Case(
        {"src": "/srv/case.tar.gz", "dest": "/srv/unpacked", "remote_src": True}, "echo x > /srv/unpacked/inside/a",
        "mkdir -p /srv/unpacked /tmp/w/inside; echo a > /tmp/w/inside/a; echo b > /tmp/w/inside/b;"
        " tar -C /tmp/w -czf /srv/case.tar.gz inside",
    ),
    "git.clone": Case(
        {"repo": "file:///srv/case.git", "dest": "/srv/checkout", "version": "main"},
        "cd /srv/checkout && git checkout -q HEAD~1",
        "git init -q -b main /srv/case.git; cd /srv/case.git; git config user.email a@b; git config user.name n;"
        " git commit -q --allow-empty -m one; git commit -q --allow-empty -m two",
    ),
    "http.download": Case(
        {"url": "http://127.0.0.1:8137/hosts", "dest": "/srv/downloaded", "password": SECRET, "username": "u",
         "headers": {"X-Token": SECRET + "2"}},
        "echo spoiled > /srv/downloaded; touch -d 2001-01-01 /srv/downloaded",
        "systemd-run --unit=httpd python3 -m http.server --directory /etc --bind 127.0.0.1 8137; sleep 1",
        secrets={"password": SECRET, "headers": SECRET + "2"},
    ),
    "hostname.set": Case({"name": "renamed"}, "echo other > /etc/hostname"),
    "timezone.set": Case({"name": "Europe/Berlin"}, "ln -sfn /usr/share/zoneinfo/Etc/UTC /etc/localtime"),
}  # fmt: skip
