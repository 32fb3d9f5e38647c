"""Fuzzing of what parses: inventories, values, exports, vaults, ssh_config, known_hosts, authorized_keys, sites.

The rule: any text is either taken, or refused soon by an error of ours that users see, and never by another exception.
Short and derandomized in CI; SLOTH_ATTACK_ROUNDS=20000 for a long form with random examples. Inputs that were found are
in corpus/.
"""

from __future__ import annotations

import os
import pwd
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.calls import execute_call
from tests.support.parsers import PARSERS, parse

pytestmark = pytest.mark.attack
ROUNDS = int(os.environ.get("SLOTH_ATTACK_ROUNDS", "60"))
CORPUS = sorted((Path(__file__).parent / "corpus").iterdir())
FUZZING = settings(
    max_examples=ROUNDS,
    derandomize=ROUNDS <= 60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)

PIECES = ["[hosts.a]\n", "[hosts]\n", "[groups.g]\n", "[defaults]\n", 'a = "1.2.3.4"\n', "port = 22\n", "port = -1\n"]
PIECES += [
    "vars = {",
    "}\n",
    'hosts = ["a", "*"]\n',
    "[",
    "]",
    '"',
    "'",
    "'''",
    '"""',
    "=",
    ".",
    "#",
    "\n",
    "{",
    ",",
    " ",
]
PIECES += ["a[1:99999999]", "[hosts.'w[1:3]']\n", "address", "1e999", "2020-01-01", "0x", "\\u0000", "\x00", "\xff"]
PIECES += [
    "Host a\n",
    "Host *\n",
    "Match all\n",
    "Match host ",
    "HostName ",
    "%h",
    "%",
    "ProxyJump ",
    "Include /nosuch\n",
]
PIECES += ['{"sloth-runner": "state"}', '{"rows": []}', "sloth-runner-secrets 1\n", "IdentityFile ", "Port 22\n", "!"]
PIECES += ["true", "inf", "nan", 'groups = ["g"]\n']
TOML = st.lists(st.sampled_from(PIECES), max_size=25).map("".join)
TEXTS = st.one_of(TOML, st.text(max_size=200), st.binary(max_size=200).map(lambda data: data.decode("latin-1")))


@pytest.mark.parametrize("name", list(PARSERS))
@FUZZING
@given(text=TEXTS)
def test_any_text_is_taken_or_refused(name: str, text: str, tmp_path: Path) -> None:
    path = tmp_path / "input"
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    parse(PARSERS[name], path)


@pytest.mark.parametrize("name", list(PARSERS))
@pytest.mark.parametrize("path", CORPUS, ids=lambda path: path.name)
def test_what_was_found_once(name: str, path: Path) -> None:
    parse(PARSERS[name], path)


# Files of keys, edited on a host

ED = "AAAAC3NzaC1lZDI1NTE5AAAAIGrShxPYuoCAF5bnDKQ1kQmJwxJ8s1cZ0lQJZq3yHcAr"
KEYS = [
    "ssh-ed25519 ",
    f"ssh-ed25519 {ED}",
    f"web1 ssh-ed25519 {ED}",
    "web1,web2 ",
    "|1|",
    "AAAA",
    "@revoked ",
    "[web1]:22 ",
]
KEYS += [
    'command="a \\" b" ',
    "no-pty,",
    "# ",
    "\n",
    "\r\n",
    "\t",
    " ",
    '"',
    "*",
    "!web1 ",
    "\xff",
    "\x00",
    "ssh-rsa B",
]
FILES = st.lists(st.sampled_from(KEYS), max_size=20).map("".join)
CALLS = {
    "ssh.authorized_key": {"user": pwd.getpwuid(os.geteuid()).pw_name, "key": f"ssh-ed25519 {ED} me"},
    "ssh.known_hosts": {"name": "web1", "key": f"web1 ssh-ed25519 {ED}"},
}


@pytest.mark.parametrize("module", list(CALLS))
@FUZZING
@given(text=FILES)
def test_files_of_keys_converge_and_keep_their_lines(module: str, text: str, tmp_path: Path) -> None:
    path = tmp_path / "keys"
    before = text.encode("latin-1")
    path.write_bytes(before)
    execute_call(module, path=str(path), **CALLS[module])
    assert ED.encode() in path.read_bytes()
    assert execute_call(module, path=str(path), **CALLS[module]).status == "unchanged"
    kept = path.read_bytes()
    assert all(line in kept for line in before.splitlines() if line.lstrip().startswith(b"#"))
    execute_call(module, path=str(path), state="absent", **CALLS[module])
    assert execute_call(module, path=str(path), state="absent", **CALLS[module]).status == "unchanged"
