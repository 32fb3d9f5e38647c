"""The shell script that looks for a Python on a host, and installs one: for POSIX shells, without single quotes."""

from __future__ import annotations

from sloth.errors import UsageError
from sloth.transport.stage1 import CANDIDATES, PLAIN_PATH

# What stage 1 asks of a Python. The names of the packages are those of whole Pythons: python3-minimal has no sqlite3.
_SCRIPT = """
has() {{ command -v "$1" >/dev/null 2>&1; }}
look() {{
    for p in {candidates}; do
        has "$p" || continue
        "$p" -I -S -E -c "import sys, _sqlite3, fcntl, json, pwd, select, struct, threading, zlib; \
sys.exit(sys.version_info < (3, 6))" >/dev/null 2>&1 && {{ command -v "$p"; return 0; }}
    done
    return 1
}}
PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin:/usr/local/bin:/usr/bin:/bin
if p=$(look); then echo "sloth-bootstrap:present:$p"; exit 0; fi
m=
for one in apt-get dnf microdnf yum zypper apk pacman; do has $one && {{ m=$one; break; }}; done
if [ -z "$m" ]; then echo "sloth-bootstrap:failed:none of apt, dnf, zypper, apk and pacman is there"; exit 1; fi
if [ {check} = 1 ]; then echo "sloth-bootstrap:planned:by $m"; exit 0; fi
if [ "$(id -u)" != 0 ]; then echo "sloth-bootstrap:failed:only root can install it: set become for the host"; exit 1; fi
patiently() {{ # the first boot of a host updates and upgrades, too
    n=0
    while :; do
        out=$("$@" 2>&1)
        r=$?
        echo "$out"
        case $r$out in
            0*) return 0 ;;
            *"ould not get lock"*|*"nable to lock"*|*"nable to acquire"*|*"locked by another"*) n=$((n + 1)) ;;
            *) return $r ;;
        esac
        [ $n -lt 100 ] || return $r
        sleep 3
    done
}}
exec 3>&1 1>&2 </dev/null
export DEBIAN_FRONTEND=noninteractive LC_ALL=C
case $m in
    apt-get)
        patiently apt-get -q update
        patiently apt-get -q -y --no-install-recommends install python3 ;;
    dnf|microdnf|yum) $m -y install python3 ;;
    zypper) zypper --non-interactive install python3 ;;
    apk) apk add --no-cache python3 ;;
    pacman) pacman -Sy --noconfirm --needed python ;;
esac
r=$?
if p=$(look); then echo "sloth-bootstrap:installed:$p by $m" >&3; exit 0; fi
echo "sloth-bootstrap:failed:$m ended with exit status $r, and no Python can be used" >&3
exit 1
"""


def python_setup_script(python: str | None, check: bool) -> str:
    """Return the script; python: the interpreter that the inventory names; check: install nothing.

    It prints one line, "sloth-bootstrap:STATUS:DETAIL", on stdout. Raises UsageError.
    """
    if python is not None and not PLAIN_PATH.match(python):
        raise UsageError(f"python = {python!r} is not the plain path of an interpreter")
    script = _SCRIPT.format(candidates=python or " ".join(CANDIDATES), check=int(check))
    assert "'" not in script
    return script
