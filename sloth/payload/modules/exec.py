"""Commands: run because nothing more declarative fits, guarded where they can be."""

import os

from sloth.payload.kernel.hashing import sha256
from sloth.payload.kernel.resource import REQUIRED, Action, ArgumentError, Failed, Field

SHOWN = 120  # characters of a command in its key


class Run(Action):
    """Run a command: a list without a shell, a string by /bin/sh.

    It runs every time unless a guard stops it (creates, removes, unless, only_if), and it is always a change unless
    `read_only` promises that it is none. A final newline is taken off stdout and stderr, as Ansible's command does.
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
        Field("stdin", "str", help="what the command reads"),
        Field("stdin_add_newline", "bool", True, help="end stdin with a newline"),
        Field("timeout", "float", how=True, help="seconds after which it is ended, with its children"),
        Field("executable", "path", help="the shell for a command that is a string"),
        Field("ok_codes", "list", ["0"], how=True, help="exit codes that count as success"),
        Field("fail", "bool", True, how=True, help="false: another exit code is no failure; look at success"),
        Field("read_only", "bool", False, how=True, help="it changes nothing: runs in a check, reports unchanged"),
    )
    returns = (
        Field("stdout", help="what it printed"),
        Field("stderr", help="what it printed to stderr"),
        Field("exit_code", "int", help="its exit code; negative: died of that signal"),
        Field("success", "bool", help="whether the exit code is among ok_codes"),
    )
    example = """task({name = "uptime", run = function()
    local result = exec.run({cmd = {"uptime", "-p"}, read_only = true, fail = false})
    print(result.success, result.stdout)
end})"""

    @classmethod
    def check_together(cls, values):
        if not values["cmd"] or values["cmd"] == [""]:
            raise ArgumentError("exec.run: cmd is empty")
        for code in values["ok_codes"]:
            if not code.lstrip("-").isdigit():
                raise ArgumentError("exec.run: ok_codes must be whole numbers, not %r" % code)

    def identity(self):
        cmd = self.args.cmd
        text = cmd if isinstance(cmd, str) else " ".join(cmd)
        if len(text) <= SHOWN and "\n" not in text:
            return text
        digest = sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:12]
        return "%s...%s" % (text.partition("\n")[0][: SHOWN - 20], digest)

    def safe_in_check(self):
        return self.args.read_only

    def unrun(self, why):
        return {"stdout": why, "stderr": "", "exit_code": 0, "success": True}

    def guard(self):
        args = self.args
        if args.creates and os.path.lexists(self.host.expand(args.creates)):
            return "%s exists" % args.creates
        if args.removes and not os.path.lexists(self.host.expand(args.removes)):
            return "%s does not exist" % args.removes
        if args.unless and self._run(args.unless, None, False).exit_code == 0:
            return "the command of unless succeeds"
        if args.only_if and self._run(args.only_if, None, False).exit_code != 0:
            return "the command of only_if fails"
        return ""

    def _run(self, cmd, stdin, stream):
        args = self.args
        argv = cmd
        if isinstance(cmd, str):
            argv = [args.executable or "/bin/sh", "-c", cmd]
        argv = [os.fsencode(word) for word in argv]
        env = dict((str(name), str(value)) for name, value in (args.env or {}).items())
        cwd = self.host.expand(args.cwd) if args.cwd else None
        if cwd is not None and not os.path.isdir(cwd):
            raise Failed("there is no directory %s to run in" % cwd)
        try:
            return self.host.run(argv, stdin=stdin, env=env, cwd=cwd, timeout=args.timeout, stream=stream)
        except FileNotFoundError:
            raise Failed("there is no command %s" % os.fsdecode(argv[0]), hint="is it installed, and in the PATH?")
        except PermissionError:
            raise Failed("%s may not be executed" % os.fsdecode(argv[0]), hint="look at its mode, or set become")

    def run(self):
        args = self.args
        stdin = None
        if args.stdin is not None:
            text = args.stdin + ("\n" if args.stdin_add_newline and not args.stdin.endswith("\n") else "")
            stdin = text.encode("utf-8", "surrogateescape")
        done = self._run(args.cmd, stdin, True)
        stdout, stderr = _text(done.stdout), _text(done.stderr)
        last = "\n".join((stderr or stdout).splitlines()[-20:])
        if done.ended == "timeout":
            raise Failed("it did not end within %g seconds" % args.timeout, detail=last)
        if done.ended:
            raise Failed("it was ended: the run was %s" % done.ended, detail=last)
        success = str(done.exit_code) in args.ok_codes
        if not success and args.fail:
            how = "exit code %d" % done.exit_code if done.exit_code >= 0 else "died of signal %d" % -done.exit_code
            raise Failed(how, detail=last)
        if done.cut:
            self.host.warn("only the first part of what the command printed was kept")
        return {
            "stdout": stdout,
            "stderr": stderr,
            "exit_code": done.exit_code,
            "success": success,
            "changed": not args.read_only,
        }


def _text(data):
    return data.decode("utf-8", "surrogateescape").rstrip("\r\n")
