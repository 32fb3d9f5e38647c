"""cron.job: a job that cron runs, in a user's crontab or in a file of /etc/cron.d."""

import os

from sloth.payload.kernel.content import Content
from sloth.payload.kernel.resource import REQUIRED, ArgumentError, Change, Failed, Field, Missing, Resource
from sloth.payload.lib import files
from sloth.payload.lib.accounts import missing_user
from sloth.payload.lib.contents import open_regular
from sloth.payload.lib.regex import expression, re

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sloth.payload.kernel.values import Arguments, Attributes
    from sloth.payload.lib.command import Completed
    from sloth.payload.lib.host import Host

SPECIAL = ("reboot", "yearly", "annually", "monthly", "weekly", "daily", "hourly")
MARKS = ("#sloth: ", "#Ansible: ")  # a job that Ansible wrote is taken over
DIRECTORY = "/etc/cron.d"
_TIME = expression(r"^[0-9A-Za-z*,/~-]+\Z")
# A job's line, disabled or not; the minute and hour have no names, which tells it from a comment in English.
_JOB = expression(r"^#?\s*(?:@[a-z]+|[0-9*,/~-]+\s+[0-9*,/~-]+(?:\s+[0-9A-Za-z*,/~?-]+){3})\s+\S")


class Job(Resource):
    """Make sure that cron runs, or does not run, a job.

    The semantics are those of Ansible's cron. A comment above the job's line has its name; one that Ansible wrote is
    recognized. Other lines are kept byte for byte. In the command, cron takes an unescaped % for a newline.

    Other than Ansible, the line below the comment is replaced or removed only if it is a job: when somebody removed the
    job's line by hand, the next lines stay as they are. Further jobs with the same name are removed.

    Other than Ansible, a `cron_file` with a name that the cron of the host never reads is refused (Debian's cron
    ignores names with dots), and a file in /etc/cron.d that cron would ignore because of its mode or owner is repaired.

    Other than Ansible, `user` may be left out with `cron_file`: it is the account that the task runs as. A warning
    names a user that does not exist, whose job cron would ignore.

    Other than Ansible, the value of a variable is quoted as cron reads it, also when it contains quotes itself, and a
    value that cron cannot represent is refused. Variables are added at the top; there is no `insertafter`.

    Other than Ansible, a `cron_file` that has become empty is kept.
    """

    name = "cron.job"
    partial = True
    _read: "os.stat_result | None" = None  # of cron_file, when observe() read it
    fields = (
        Field("name", "str", REQUIRED, help="name of the job, in a comment above it; with env that of the variable"),
        Field("job", aliases=("value",), help="the command; with env the value of the variable"),
        Field("minute", "str", "*", help="minutes when it runs: 0-59, *, */2, lists"),
        Field("hour", "str", "*", help="hours: 0-23, as minute"),
        Field("day", "str", "*", aliases=("dom",), help="days of the month: 1-31, as minute"),
        Field("month", "str", "*", help="months: 1-12 or names, as minute"),
        Field("weekday", "str", "*", aliases=("dow",), help="weekdays: 0-6 from Sunday, or names, as minute"),
        Field("special_time", choices=SPECIAL, help="when it runs, instead of the five fields"),
        Field("user", help="whose crontab it is, or as whom a job of cron_file runs; by default the task's account"),
        Field("cron_file", help="a file of this name in /etc/cron.d (or an absolute path), instead of a crontab"),
        Field("disabled", "bool", False, help="write the job's line as a comment"),
        Field("env", "bool", False, help="name is a variable and job its value: a line at the top"),
        Field("state", choices=("present", "absent"), default="present", help="whether the job is there"),
        files.BACKUP,
    )
    example = """task({name = "nightly", run = function()
    cron.job({name = "clean up", minute = 17, hour = 3, job = "find /var/tmp/app -mtime +7 -delete", user = "root"})
end})"""

    @classmethod
    def check_together(cls, values: "Arguments") -> "None":
        is_present = values["state"] == "present"
        if is_present and not values.get("job") and not (values["env"] and values.get("job") == ""):
            raise ArgumentError("%s needs job" % cls.name)
        for name in ("name", "job", "user"):
            if "\n" in (values.get(name) or ""):
                raise ArgumentError("%s: %s must be one line" % (cls.name, name))
        times = [values[name] for name in ("minute", "hour", "day", "month", "weekday")]
        for time in times:
            if not _TIME.match(time):
                raise ArgumentError("%s: %r is not a valid time for cron" % (cls.name, time))
        if values.get("special_time") and times != ["*"] * 5:
            raise ArgumentError("%s: special_time excludes minute, hour, day, month and weekday" % cls.name)
        cron_file = values.get("cron_file")
        if cron_file is not None and (not cron_file or ("/" in cron_file and not cron_file.startswith("/"))):
            raise ArgumentError("%s: cron_file must be a file name or an absolute path: %r" % (cls.name, cron_file))
        if values["env"]:
            if not re.match(r"^[A-Za-z_]\w*\Z", values["name"]):
                raise ArgumentError("%s: %r is not a valid variable name" % (cls.name, values["name"]))
            if is_present and _quote(values["job"]) is None:
                raise ArgumentError(
                    "%s: cron cannot represent a value with both kinds of quotes that begins with one" % cls.name,
                    hint="set the variable in the job's command instead",
                )

    @property
    def file(self) -> "str | None":
        """The path of cron_file, or None: it is a user's crontab."""
        name: "str | None" = self.args.cron_file
        return os.path.join(DIRECTORY, name) if name else None

    @property
    def user(self) -> "str":
        return self.args.user or self.host.user

    def identity(self) -> "str":
        return "%s:%s" % (self.file or self.user, self.args.name)

    def place(self) -> "str | None":
        return self.file

    def _crontab(self, words: "list[str]", stdin: "bytes | None" = None) -> "Completed":
        user = ["-u", self.args.user] if self.args.user and self.args.user != self.host.user else []
        try:
            return self.host.run(["crontab"] + user + words, stdin=stdin, env={"LC_ALL": "C"}, timeout=60)
        except FileNotFoundError:
            raise Missing("crontab is not installed on this host", hint="install cron, or set cron_file")

    def observe(self) -> "Attributes | None":
        if self.file:
            now: "Attributes | None" = files.look(self.file)
            if now is None:
                return None
            with open(open_regular(self.file), "rb") as file:
                self._read = os.fstat(file.fileno())
                return dict(files.describe(self._read), content=Content.of_bytes(file.read()))
        if self.args.user and self.host.account(self.args.user) is None:
            raise missing_user(self.args.user)
        done = self._crontab(["-l"])
        if done.exit_code and "user:%s" % self.args.user in self.host.predicted:
            return None  # in a check: the user does not exist yet
        if done.exit_code and b"no crontab" not in done.stderr:
            hint = "set become = true" if self.host.uid else ""
            raise Failed(done.stderr.decode("utf-8", "replace").strip() or "crontab -l failed", hint=hint)
        return {"content": Content.of_bytes(done.stdout)} if done.exit_code == 0 else None

    def desired(self, now: "Attributes | None") -> "Attributes | None":
        is_present = self.args.state == "present"
        if self.file and is_present:
            self._refuse_ignored_name(self.file)
        old = b"" if now is None else now["content"].data()
        new = self.edit(old)
        if now is None:
            if new == old:
                return None
            created: "Attributes" = {"content": Content.of_bytes(new)}
            return dict(created, mode="0644") if self.file else created
        desired: "Attributes" = dict(now) if new == old else {"content": Content.of_bytes(new)}
        if self.file and is_present and os.path.dirname(self.file) == DIRECTORY and self.host.uid == 0:
            # cron ignores files that others may write, or that do not belong to root.
            desired["mode"] = "%04o" % (int(now["mode"], 8) & ~0o022)
            desired["owner"] = "root"
        return desired

    def _refuse_ignored_name(self, path: "str") -> "None":
        """Raise Failed when the host's cron does not read files with such a name in /etc/cron.d."""
        directory, name = os.path.split(path)
        if directory != DIRECTORY or not re.search(r"[^A-Za-z0-9_-]", name):
            return
        hint = 'cron_file = "%s"' % (re.sub(r"[^A-Za-z0-9_-]+", "-", name).strip("-") or "jobs")
        if _is_installed(self.host, "crond"):
            # cronie reads most names, but not these.
            if not re.search(r"^[.#]|(?:~|\.rpm(?:save|orig|new))$", name):
                return
        elif not _is_installed(self.host, "cron"):
            return  # not installed yet, so which names it will read is not known
        raise Failed("the cron of this host ignores %s because of its name" % path, hint=hint)

    def edit(self, data: "bytes") -> "bytes":
        """Return the crontab's content with the job, or without it."""
        lines = [line.decode("utf-8", "surrogateescape") for line in data.splitlines(True)]
        is_present = self.args.state == "present"
        if self.args.env:
            lines = _edit_variable(lines, self.args.name, _quote(self.args.job) if is_present else None)
        else:
            lines = _edit_job(lines, self.args.name, self._line() if is_present else None)
        if is_present and lines and not lines[-1].endswith("\n"):
            lines[-1] += "\n"  # cron ignores a last line without one, or the whole file
        return "".join(lines).encode("utf-8", "surrogateescape")

    def _line(self) -> "str":
        args = self.args
        words = ["@" + args.special_time] if args.special_time else []
        words = words or [args.minute, args.hour, args.day, args.month, args.weekday]
        if self.file:
            words.append(self.user)
        return ("#" if args.disabled else "") + " ".join(words + [args.job or ""])

    def apply(self, change: "Change") -> "Attributes | None":
        after = change.after or {}
        if not self.file:
            done = self._crontab(["-"], after["content"].data())
            if done.exit_code:
                raise Failed("crontab rejects the job: %s" % done.stderr.decode("utf-8", "replace").strip())
            return None
        values: "Attributes" = {}
        is_job = self.args.state == "present" and not self.args.env
        if is_job and self.host.account(self.user) is None:
            self.host.warn("there is no user %s, so cron ignores the job" % self.user)
        if "content" in change:
            if change.before is not None and self.args.backup:
                values["backup_file"] = files.back_up(self.file)
            read = self._read if change.before is not None else None
            path = files.resolve(self.file)
            files.replace(path, [after["content"].data()], after.get("mode"), read=read, wanted=_permissions(after))
        if change.before is not None:
            files.set_attributes(self.file, Change(files.look(self.file), _permissions(after)))
        return values


def _edit_job(lines: "list[str]", name: "str", job: "str | None") -> "list[str]":
    """Return the lines with `job` below the comment with its name; None: without the job."""
    marks = [mark + name for mark in MARKS]
    kept: "list[str]" = []
    is_done = job is None
    at = 0
    while at < len(lines):
        mark = lines[at]
        at += 1
        if mark.rstrip("\r\n") not in marks:
            kept.append(mark)
            continue
        old = lines[at] if at < len(lines) and _JOB.match(lines[at]) else None
        at += 0 if old is None else 1
        if job is not None and not is_done:
            kept.append(mark if mark.endswith("\n") else mark + "\n")
            kept.append(old if old is not None and old.rstrip("\r\n") == job else job + "\n")
            is_done = True
    if job is not None and not is_done:
        if kept and not kept[-1].endswith("\n"):
            kept[-1] += "\n"
        kept += [MARKS[0] + name + "\n", job + "\n"]
    return kept


def _edit_variable(lines: "list[str]", name: "str", value: "str | None") -> "list[str]":
    """Return the lines with the variable (`value` with its quotes), or without it.

    Of several lines each is changed, since a later one overrides the earlier ones.
    """
    pattern = re.compile(r"""\s*(["']?)%s\1\s*=""" % name)
    at = [i for i, line in enumerate(lines) if pattern.match(line)]
    if value is None:
        return [line for i, line in enumerate(lines) if i not in at]
    wanted = "%s=%s" % (name, value)
    if not at:
        return [wanted + "\n"] + lines
    return [wanted + "\n" if i in at and line.rstrip("\r\n") != wanted else line for i, line in enumerate(lines)]


def _permissions(attributes: "Attributes") -> "Attributes":
    return dict((name, attributes[name]) for name in ("mode", "owner") if name in attributes)


def _is_installed(host: "Host", name: "str") -> "bool":
    return host.has_tool(name) or os.access("/usr/sbin/" + name, os.X_OK)  # which may not be on the path


def _quote(value: "str") -> "str | None":
    """Return a variable's value as cron reads it, or None when there is no way to write it.

    cron knows both kinds of quotes around a whole value and no escapes; a value that does not begin with a quote is
    read as it is, without blanks at its end.
    """
    for quote in ('"', "'"):
        if quote not in value:
            return quote + value + quote
    return value if value[0] not in "\"'" and value == value.strip() else None
