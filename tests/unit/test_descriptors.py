"""engine.descriptors: the limit of open files follows the number of hosts.

From outside: ansible #16887, #12259, #3877, #83247, mitogen #549, pyinfra #44, parallel-ssh #311: with more hosts than
the usual limit, some or all of them fail, although the process may raise it.
"""

from __future__ import annotations

import resource
import subprocess
import sys

import pytest

from tests.support.paths import ROOT

CODE = """
import resource, sys
from sloth.engine.descriptors import raise_limit
resource.setrlimit(resource.RLIMIT_NOFILE, (int(sys.argv[1]), int(sys.argv[2])))
raise_limit(int(sys.argv[3]))
print(*resource.getrlimit(resource.RLIMIT_NOFILE))
"""


@pytest.mark.parametrize(
    ("soft", "hard", "hosts", "expected"),
    [
        (256, 4096, 10, 256),  # any limit will do
        (256, 4096, 100, 528),
        (256, 4096, 5000, 4096),  # as far as it may
        (1024, 4096, 100, 1024),  # never less
        (256, 256, 5000, 256),
    ],
)
def test_the_limit_is_raised_to_what_hosts_need(soft: int, hard: int, hosts: int, expected: int) -> None:
    if resource.getrlimit(resource.RLIMIT_NOFILE)[1] < 4096:
        pytest.skip("the limit here is too low")
    command = [sys.executable, "-c", CODE, *map(str, (soft, hard, hosts))]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=120)
    assert done.stdout.split() == [str(expected), str(hard)], done.stderr
