"""A package that stands in for nginx where there is no network: its commands, unit, signals and reload, in Python."""

from __future__ import annotations

import subprocess
from pathlib import Path

PROGRAM = r'''#!/usr/bin/env python3
"""Enough of nginx for a test: -t -c FILE checks, otherwise it serves `root` on `listen` and reloads on SIGHUP."""
import functools, http.server, os, re, signal, sys, threading

def settings(path):
    text = open(path).read()
    listen, root = re.search(r"listen\s+(\S+):(\d+);", text), re.search(r"root\s+(\S+);", text)
    if not listen or not root or text.count("{") != text.count("}"):
        sys.exit("nginx: [emerg] %s cannot be used" % path)
    return (listen.group(1), int(listen.group(2))), root.group(1)

path = sys.argv[sys.argv.index("-c") + 1] if "-c" in sys.argv else "/etc/nginx/nginx.conf"
address, root = settings(path)
if "-t" in sys.argv:
    sys.exit(0)
handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=root)
server = http.server.ThreadingHTTPServer(address, handler)
signal.signal(signal.SIGHUP, lambda *_: open("/run/nginx-reloads", "a").write("reload\n"))
server.serve_forever()
'''
UNIT = """[Unit]
Description=nginx, for tests
[Service]
ExecStart=/usr/sbin/nginx
ExecReload=/bin/kill -HUP $MAINPID
[Install]
WantedBy=multi-user.target
"""


def build(directory: Path) -> Path:
    """Build nginx_1.0.deb in `directory`. Like Debian's it is neither started nor, by policy here, enabled."""
    tree = directory / ".nginx"
    for place, text, mode in (
        ("usr/sbin/nginx", PROGRAM, 0o755),
        ("lib/systemd/system/nginx.service", UNIT, 0o644),
        ("etc/nginx/mime.types", "types { }\n", 0o644),
        ("DEBIAN/control", "Package: nginx\nVersion: 1.0\nArchitecture: all\nMaintainer: Nobody <n@example.invalid>\n"
         "Description: stands in for nginx\n", 0o644),
    ):  # fmt: skip
        path = tree / place
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(mode)
    result = directory / "nginx_1.0.deb"
    subprocess.run(
        ["dpkg-deb", "--build", "--root-owner-group", str(tree), str(result)], check=True, capture_output=True
    )
    return result
