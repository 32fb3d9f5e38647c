"""exec.run: runs a command, for what no other module can do; guards say when it is not necessary."""

import errno
import os

from sloth.payload.kernel.hashing import sha256
from sloth.payload.kernel.resource import REQUIRED, Action, ArgumentError, Failed, Field

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sloth.payload.kernel.values import Arguments, Attributes
    from sloth.payload.lib.command import Completed

LONGEST_IDENTITY = 120  # characters


class Run(Action):
    """Run a command: a list without a shell, a string with /bin/sh.

    It runs every time unless a guard stops it (creates, removes, unless, only_if), and it always counts as a change
    unless `read_only` declares that it changes nothing. Newlines at the end of stdout and stderr are removed, as by
    Ansible's command.

    Other than Ansible: a string is run by a shell, as by Ansible's shell module; a list is not, as by its command.

    Other than Ansible: `creates` and `removes` are paths, not shell patterns.
    """

    name = "exec.run"
    unknown_hint = "read_only = true runs a command that changes nothing in a check, too"
    fields = (
        Field("cmd", "argv", REQUIRED, aliases=("command", "argv"), help="the command; a list (no shell) or a string"),
        Field("creates", "path", how=True, help="do not run when this path exists"),
        Field("removes", "path", how=True, help="do not run when this path does not exist"),
        Field("unless", "argv", how=True, help="do not run when this command succeeds"),
        Field("only_if", "argv", how=True, help="do not run when this command fails"),
        Field("env", "dict", help="environment variables to add"),
        Field("cwd", "path", aliases=("chdir",), help="run in this directory"),
        Field("stdin", "str", help="the text for its standard input"),
        Field("stdin_add_newline", "bool", True, help="end stdin with a newline"),
        Field("timeout", "float", how=True, help="seconds after which it is terminated, with its children"),
        Field("executable", "path", help="the shell for a command that is a string"),
        Field("ok_codes", "list", ["0"], how=True, help="exit codes that count as success"),
        Field("fail", "bool", True, how=True, help="false: another exit code is not an error; see success"),
        Field(
            "read_only",
            "bool",
            False,
            how=True,
            help="it changes nothing: it runs in a check, too, and counts as unchanged",
        ),
    )
    returns = (
        Field("stdout", help="its standard output, the first 1 MB"),
        Field("stderr", help="its standard error, the first 1 MB"),
        Field("exit_code", "int", help="its exit code; negative: it was killed by that signal"),
        Field("success", "bool", help="whether the exit code is among ok_codes"),
    )
    example = """task({name = "uptime", run = function()
    local result = exec.run({cmd = {"uptime", "-p"}, read_only = true, fail = false})
    print(result.success, result.stdout)
end})"""

    @classmethod
    def check_together(cls, values: "Arguments") -> "None":
        if not values["cmd"] or values["cmd"] == [""]:
            raise ArgumentError("exec.run: cmd is empty")
        for code in values["ok_codes"]:
            if not code.lstrip("-").isdigit():
                raise ArgumentError("exec.run: ok_codes must be whole numbers, not %r" % code)
        for name, value in (values["env"] or {}).items():
            if not name or "=" in name or "\0" in "%s%s" % (name, value):
                raise ArgumentError("exec.run: %r cannot be an environment variable" % name)
        for cmd in (values["cmd"], values["unless"], values["only_if"]):
            if "\0" in "".join(cmd or ""):
                raise ArgumentError("exec.run: a command cannot contain a NUL character")

    def identity(self) -> "str":
        cmd = self.args.cmd
        text = cmd if isinstance(cmd, str) else " ".join(cmd)
        if len(text) <= LONGEST_IDENTITY and "\n" not in text:
            return text
        digest = sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:12]
        return "%s...%s" % (text.partition("\n")[0][: LONGEST_IDENTITY - 20], digest)

    def safe_in_check(self) -> "bool":
        return bool(self.args.read_only)

    def unrun(self, why: "str") -> "Attributes":
        return {"stdout": why, "stderr": "", "exit_code": 0, "success": True}

    def guard(self) -> "str":
        args = self.args
        if args.creates and self._exists(args.creates):
            return "%s exists" % args.creates
        if args.removes and not self._exists(args.removes):
            return "%s does not exist" % args.removes
        if args.unless and self._run(args.unless, None, False).exit_code == 0:
            return "the command in unless succeeds"
        if args.only_if and self._run(args.only_if, None, False).exit_code != 0:
            return "the command in only_if fails"
        return ""

    def _exists(self, path: "str") -> "bool":
        """Return whether a path exists or, in a check, would by now."""
        path = self.host.expand(path)
        if path in self.host.predicted:
            return self.host.predicted[path] is not None
        return path in self.host.foreseen or os.path.lexists(path)

    def foresee(self) -> "None":
        if self.args.creates:
            self.host.foreseen.add(self.host.expand(self.args.creates))

    def _run(self, cmd: "str | list[str]", stdin: "bytes | None", stream: "bool") -> "Completed":
        args = self.args
        words = [args.executable or "/bin/sh", "-c", cmd] if isinstance(cmd, str) else cmd
        env = dict((str(name), str(value)) for name, value in (args.env or {}).items())
        cwd = self.host.expand(args.cwd) if args.cwd else None
        if cwd is not None and not os.path.isdir(cwd):
            why = "is not a directory" if os.path.exists(cwd) else "does not exist"
            raise Failed("the directory %s %s" % (cwd, why))
        try:
            return self.host.run(words, stdin=stdin, env=env, cwd=cwd, timeout=args.timeout, stream=stream)
        except FileNotFoundError:
            if "/" in words[0] and os.path.exists(os.path.join(cwd or os.getcwd(), words[0])):
                raise Failed(
                    "the interpreter that the first line of %s names does not exist" % words[0],
                    hint="is it installed? A line that ends with CR LF names one with a CR",
                )
            raise Failed("there is no command %s" % words[0], hint="is it installed, and in PATH?")
        except PermissionError:
            raise Failed("permission denied: %s cannot be executed" % words[0], hint="check its mode, or set become")
        except OSError as error:
            if error.errno != errno.ENOEXEC:
                raise
            raise Failed(
                "%s is not a program that this host can execute" % words[0],
                hint="a script begins with a line like #!/bin/sh",
            )

    def run(self) -> "Attributes":
        args = self.args
        stdin = None
        if args.stdin is not None:
            text = args.stdin + ("\n" if args.stdin_add_newline and not args.stdin.endswith("\n") else "")
            stdin = text.encode("utf-8", "surrogateescape")
        done = self._run(args.cmd, stdin, True)
        stdout, stderr = _text(done.stdout), _text(done.stderr)
        last = "\n".join((_text(done.last) or stderr or stdout).splitlines()[-20:])
        if done.ended == "timeout":
            raise Failed("the command did not end within %g seconds" % args.timeout, detail=last)
        if done.ended:
            raise Failed("the command was terminated: the run was %s" % done.ended, detail=last)
        success = str(done.exit_code) in args.ok_codes
        if not success and args.fail:
            how = "exit code %d" % done.exit_code if done.exit_code >= 0 else "killed by signal %d" % -done.exit_code
            raise Failed(how, detail=last, numbers={"exit_code": done.exit_code})
        if done.cut:
            self.host.warn("only the first part of the command's output was kept")
        return {
            "stdout": stdout,
            "stderr": stderr,
            "exit_code": done.exit_code,
            "success": success,
            "changed": not args.read_only,
        }


def _text(data: "bytes") -> "str":
    return data.decode("utf-8", "surrogateescape").rstrip("\r\n")
