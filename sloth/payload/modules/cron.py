"""cron.job: what cron runs, in a user's crontab or in a file of /etc/cron.d."""

import os
import re

from sloth.payload.kernel.content import Content
from sloth.payload.kernel.resource import REQUIRED, ArgumentError, Failed, Field, Missing, Resource
from sloth.payload.lib import files

SPECIAL = ("reboot", "yearly", "annually", "monthly", "weekly", "daily", "hourly")
MARKS = ("#sloth: ", "#Ansible: ")  # a job that Ansible wrote is taken over


class Job(Resource):
    """Make sure that cron runs a job, or does not.

    The semantics are those of Ansible's cron. A comment above the job's line bears its name; one that Ansible wrote is
    recognised. Other lines stay byte for byte.
    """

    name = "cron.job"
    partial = True
    fields = (
        Field("name", "str", REQUIRED, help="what tells the job from others, in a comment above it"),
        Field("job", help="the command; with env the value of the variable"),
        Field("minute", "str", "*", help="when: 0-59, *, */2, lists"),
        Field("hour", "str", "*", help="when: 0-23, as minute"),
        Field("day", "str", "*", aliases=("dom",), help="when: 1-31, as minute"),
        Field("month", "str", "*", help="when: 1-12, as minute"),
        Field("weekday", "str", "*", aliases=("dow",), help="when: 0-6 from Sunday, or names, as minute"),
        Field("special_time", choices=SPECIAL, help="when, instead of the five above"),
        Field("user", help="whose crontab it is, or as whom a job of cron_file runs; without it the task's account"),
        Field("cron_file", help="a file of this name in /etc/cron.d (or an absolute path), instead of a crontab"),
        Field("disabled", "bool", False, help="the job's line is a comment"),
        Field("env", "bool", False, help="name is a variable, job its value: a line at the top"),
        Field("state", choices=("present", "absent"), default="present", help="whether it is there"),
        files.BACKUP,
    )
    example = """task({name = "nightly", run = function()
    cron.job({name = "clean up", minute = 17, hour = 3, job = "find /var/tmp/app -mtime +7 -delete", user = "root"})
end})"""

    @classmethod
    def check_together(cls, values):
        if values["state"] == "present" and not values.get("job"):
            raise ArgumentError("%s needs job" % cls.name)
        for name in ("name", "job", "user"):
            if "\n" in (values.get(name) or ""):
                raise ArgumentError("%s: %s must be one line" % (cls.name, name))
        times = [values[name] for name in ("minute", "hour", "day", "month", "weekday")]
        for time in times:
            if not re.match(r"^[0-9A-Za-z*,/~-]+$", time):
                raise ArgumentError("%s: %r is no time that cron knows" % (cls.name, time))
        if values.get("special_time") and times != ["*"] * 5:
            raise ArgumentError("%s: special_time stands instead of minute, hour, day, month and weekday" % cls.name)
        if values["env"] and not re.match(r"^[A-Za-z_]\w*$", values["name"]):
            raise ArgumentError("%s: %r cannot be the name of a variable" % (cls.name, values["name"]))

    @property
    def file(self):
        """The path of cron_file, or None: it is a user's crontab."""
        name = self.args.cron_file
        return name and (name if name.startswith("/") else os.path.join("/etc/cron.d", name))

    @property
    def user(self):
        return self.args.user or self.host.user

    def identity(self):
        return "%s:%s" % (self.file or self.user, self.args.name)

    def place(self):
        return self.file

    def _crontab(self, words, stdin=None):
        user = ["-u", self.args.user] if self.args.user and self.args.user != self.host.user else []
        try:
            return self.host.run(["crontab"] + user + words, stdin=stdin, env={"LC_ALL": "C"}, timeout=60)
        except FileNotFoundError:
            raise Missing("this host has no crontab", hint="install cron, or write to a cron_file")

    def observe(self):
        if self.file:
            seen = files.look(self.file)
            if seen is None:
                return None
            with open(self.file, "rb") as file:
                return dict(seen, content=Content.of_bytes(file.read()))
        if self.args.user and self.host.account(self.args.user) is None:
            raise Missing("there is no user %s" % self.args.user, hint="make it first, with user.create")
        done = self._crontab(["-l"])
        if done.exit_code and b"no crontab" not in done.stderr:
            hint = "set become = true" if self.host.uid else ""
            raise Failed(done.stderr.decode("utf-8", "replace").strip() or "crontab -l failed", hint=hint)
        return {"content": Content.of_bytes(done.stdout)} if done.exit_code == 0 else None

    def desired(self, now):
        old = b"" if now is None else now["content"].data()
        new = self.edit(old)
        if new == old:
            return now
        wish = {"content": Content.of_bytes(new)}
        if now is None and self.file:
            wish["mode"] = "0644"
        return wish

    def edit(self, data):
        """The crontab's bytes with the job in it, or without it."""
        lines = [line.decode("utf-8", "surrogateescape") for line in data.splitlines(True)]
        if self.args.env:
            return self._edit_variable(lines)
        marks = [mark + self.args.name for mark in MARKS]
        at = next((i for i, line in enumerate(lines) if line.rstrip("\r\n") in marks), None)
        job = self._line() + "\n"
        if self.args.state == "absent":
            if at is not None:
                del lines[at : at + 2]
        elif at is None:
            if lines and not lines[-1].endswith("\n"):
                lines[-1] += "\n"
            lines += [MARKS[0] + self.args.name + "\n", job]
        elif at + 1 == len(lines):
            lines[at:] = [lines[at].rstrip("\r\n") + "\n", job]
        elif lines[at + 1].rstrip("\r\n") != job.rstrip("\n"):
            lines[at + 1] = job
        return "".join(lines).encode("utf-8", "surrogateescape")

    def _edit_variable(self, lines):
        at = [i for i, line in enumerate(lines) if re.match(r"\s*%s\s*=" % self.args.name, line)]
        wish = '%s="%s"\n' % (self.args.name, self.args.job)
        if self.args.state == "absent":
            lines = [line for i, line in enumerate(lines) if i not in at]
        elif not at:
            lines.insert(0, wish)
        elif lines[at[0]].rstrip("\r\n") != wish.rstrip("\n"):
            lines[at[0]] = wish
        return "".join(lines).encode("utf-8", "surrogateescape")

    def _line(self):
        args = self.args
        words = ["@" + args.special_time] if args.special_time else []
        words = words or [args.minute, args.hour, args.day, args.month, args.weekday]
        if self.file:
            words.append(self.user)
        return ("#" if args.disabled else "") + " ".join(words + [args.job or ""])

    def apply(self, change):
        data = change.after["content"].data()
        if self.file:
            values = {}
            if change.before is not None and self.args.backup:
                values["backup_file"] = files.back_up(self.file)
            files.replace(self.file, [data], change.after.get("mode"))
            return values
        done = self._crontab(["-"], data)
        if done.exit_code:
            raise Failed("crontab refuses it: %s" % done.stderr.decode("utf-8", "replace").strip())
        return {}
