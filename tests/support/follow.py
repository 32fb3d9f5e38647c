"""Let coverage follow payloads: `python -m tests.support.follow` prepares the virtual environment it runs in.

A payload runs under `python -I -S -E`, which reads nothing that could start coverage. So where SLOTH_FOLLOW is set, our
processes of this environment name another interpreter as theirs, and have it as the first `python3` of $PATH: a script
that starts coverage before the payload, and every other program as it is. The product knows nothing of it.
"""

from __future__ import annotations

import os
import shutil
import sys
import sysconfig
from pathlib import Path

from tests.support.paths import ROOT

VARIABLE = "SLOTH_FOLLOW"
_SHELL = """#!/bin/sh
[ "$1 $2 $3" = "-I -S -E" ] || exec {python} "$@"
shift 3
exec {python} -I -S -E {tracer} "$@"
"""
# A controller ends a payload's process group after its last message, when it has not yet written what was measured.
_TRACER = """import os, sys
if os.getpid() != os.getpgrp():
    os.setsid()
sys.path.append({packages!r})
import coverage
sys.executable = {wrapper!r}
started = coverage.Coverage(
    data_file={data!r}, data_suffix=True, branch=True, source_pkgs=["sloth"], config_file={config!r}
)
started._warn_no_data = False
started.start()
if sys.argv[1] == "-c":
    source, sys.argv[:] = sys.argv[2], ["-c"] + sys.argv[3:]
else:
    del sys.argv[0]
    with open(sys.argv[0]) as file:
        source = file.read()
try:
    exec(compile(source, "<payload>", "exec"), {{"__name__": "__main__", "__builtins__": __builtins__}})
finally:  # a watchdog comes to its end; a session ends with os._exit(), which is patched to do the same
    started.stop()
    started.save()
"""
_CONFIG = """[run]
patch = _exit
disable_warnings = module-not-imported, no-data-collected
"""


def prepare() -> Path:
    """Write what follows payloads below this virtual environment; return its directory."""
    directory = Path(sys.prefix, "follow")
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir()
    wrapper, tracer, config = (directory / name for name in ("python3", "tracer.py", "coveragerc"))
    packages = sysconfig.get_path("platlib")
    python = Path(sys.prefix, "bin", "python")
    wrapper.write_text(_SHELL.format(python=python, tracer=tracer))
    wrapper.chmod(0o755)
    config.write_text(_CONFIG)
    data = str(ROOT / ".coverage")
    values = {"packages": packages, "wrapper": str(wrapper), "data": data, "config": str(config)}
    tracer.write_text(_TRACER.format(**values))
    line = (
        f"import os, sys; {VARIABLE!r} in os.environ and sys.flags.isolated == 0 and ("
        f"setattr(sys, 'executable', {str(wrapper)!r}), os.environ.update("
        f"PATH={f'{directory}{os.pathsep}'!r} + os.environ.get('PATH', os.defpath).replace("
        f"{f'{directory}{os.pathsep}'!r}, '')))\n"
    )
    Path(packages, "sloth_follow.pth").write_text(line)
    return directory


if __name__ == "__main__":
    prepare()
