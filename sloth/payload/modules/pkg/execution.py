"""Run the commands of a package manager that change something, and explain their failures."""

from sloth.payload.kernel.resource import Failed, Missing
from sloth.payload.lib.regex import re
from sloth.payload.modules.pkg import locks

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Sequence

    from sloth.payload.lib.command import Completed
    from sloth.payload.modules.pkg.backend import Backend
    from sloth.payload.modules.pkg.options import Options

SHOWN = 4000  # characters of a command's output in an error


def execute(
    backend: "Backend",
    commands: "Sequence[Sequence[str]]",
    options: "Options",
    lock_files: "Sequence[str] | None" = None,
) -> "None":
    """Run commands, each when nobody else has locked the database; raise Failed when one does not succeed."""
    if backend.host.uid != 0:
        raise Failed("only root may change packages", hint="set become = true on the task or the host")
    for argv in commands:
        patience = locks.Patience(backend.host, options.lock_timeout)
        while True:
            backend.wait(patience, backend.lock_files if lock_files is None else lock_files)
            try:
                done = backend.start(argv, options)
            except FileNotFoundError:
                raise Missing("this host has no command %s" % argv[0])
            output = (done.stdout + b"\n" + done.stderr).decode("utf-8", "replace")
            if done.exit_code in backend.good_codes and not done.ended and not backend.complaint(output):
                break
            # Another process may have taken the lock between wait() and start().
            found = re.search(backend.busy, output, re.MULTILINE) if backend.busy else None
            if not found or done.ended:
                raise explain(backend, done, output)
            patience.pause(*backend.lock_in(found))


def explain(backend: "Backend", done: "Completed", output: "str") -> "Failed":
    """Return the Failed for a command that did not succeed; its message is the cause, as far as the output has it."""
    detail = output.strip()[-SHOWN:]
    if done.ended:
        return Failed("%s was stopped: %s" % (backend.tool, done.ended), detail=detail)
    cause = backend.cause(output)
    if cause:
        return Failed("%s: %s" % (backend.tool, cause), hint=_hint(backend, output), detail=detail)
    for expression in backend.unknown_names:
        found = re.search(expression, output, re.MULTILINE)
        if found:
            return backend.unknown([found.group(1)], detail)
    for expression, hint in backend.errors:
        found = re.search(expression, output, re.MULTILINE)
        if found:
            return Failed("%s: %s" % (backend.tool, found.group(0).strip()), hint=hint, detail=detail)
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    errors = [line for line in lines if re.match(r"(E|error|Error|ERROR)\b", line)]
    last = (errors or lines or [""])[-1]
    return Failed("%s: exit code %d: %s" % (backend.tool, done.exit_code, last), detail=detail)


def _hint(backend: "Backend", output: "str") -> "str":
    for expression, hint in backend.errors:
        if re.search(expression, output, re.MULTILINE):
            return hint
    return ""
