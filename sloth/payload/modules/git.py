"""git.clone: a working copy of a repository at a version."""

import os
import re

from sloth.payload.kernel.resource import REQUIRED, ArgumentError, DriftBy, Failed, Field, Missing, Resource

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Sequence

    from sloth.payload.kernel.record import Asset
    from sloth.payload.kernel.resource import Args, Change
    from sloth.payload.kernel.values import Arguments, Attributes
    from sloth.payload.lib.host import Host

DEADLINE = 1800  # seconds for one git command
_COMMIT = re.compile(r"^[0-9a-f]{7,64}$")


class Clone(Resource):
    """Make sure that a working copy of a repository exists and is at a version.

    The semantics are those of Ansible's git. A branch is looked up at the remote on every run. Local changes of tracked
    files stop an update, unless `force` discards them; untracked files are kept.
    """

    name = "git.clone"
    subject = "dest"
    drift_by = DriftBy.RECORD
    fields = (
        Field("repo", "file", REQUIRED, aliases=("url",), help="the repository's URL or path"),
        Field("dest", "path", REQUIRED, help="the directory of the working copy"),
        Field("version", "str", "HEAD", help="a branch, a tag, or a commit's hash"),
        Field("update", "bool", True, how=True, help="false: do not update an existing working copy"),
        Field("depth", "int", how=True, help="fetch only that many commits"),
        Field("force", "bool", False, how=True, help="discard local changes"),
        Field("recursive", "bool", True, how=True, help="with submodules"),
        Field("remote", "str", "origin", help="the name of the remote"),
        Field("key_file", "path", how=True, help="the private key, on the host, to authenticate with"),
        Field("accept_newhostkey", "bool", False, how=True, help="accept the key of an unknown host"),
        Field("ssh_opts", how=True, help="additional options for ssh"),
    )
    returns = (
        Field("before", help="the commit before the change"),
        Field("after", help="the commit now"),
    )
    example = """task({name = "app", run = function()
    git.clone({repo = "https://example.com/app.git", dest = "/srv/app", version = "v1.2"})
end})"""

    @classmethod
    def check_together(cls, values: "Arguments") -> "None":
        for name in ("repo", "version", "remote"):
            if values[name].startswith("-") or "\n" in values[name]:
                raise ArgumentError("%s: %s cannot begin with -: %s" % (cls.name, name, values[name]))
        if values.get("depth") is not None and values["depth"] < 1:
            raise ArgumentError("%s: depth must be at least 1" % cls.name)

    def __init__(self, args: "Args", host: "Host", assets: "Sequence[Asset]" = ()) -> "None":
        Resource.__init__(self, args, host, assets)
        self._target = ""  # the commit that `version` means; a short hash until it was fetched

    @property
    def dest(self) -> "str":
        return self.host.expand(self.args.dest)

    def identity(self) -> "str":
        return self.dest

    def _git(self, words: "list[str]", inside: "bool" = True, fine: "tuple[int, ...]" = ()) -> "str | None":
        """Run git and return its output, or None for an exit code in `fine`. Raises Failed for others, Missing."""
        ssh = ["ssh", "-o", "BatchMode=yes"]
        if self.args.key_file:
            ssh += ["-i", self.host.expand(self.args.key_file), "-o", "IdentitiesOnly=yes"]
        if self.args.accept_newhostkey:
            ssh += ["-o", "StrictHostKeyChecking=accept-new"]
        command = " ".join("'%s'" % word.replace("'", "'\\''") for word in ssh)
        env = {
            "GIT_TERMINAL_PROMPT": "0",
            "GIT_SSH_COMMAND": command + (" " + self.args.ssh_opts if self.args.ssh_opts else ""),
            "LC_ALL": "C",
        }
        argv = ["git", "-c", "advice.detachedHead=false"] + (["-C", self.dest] if inside else [])
        try:
            done = self.host.run(argv + words, env=env, timeout=DEADLINE)
        except FileNotFoundError:
            raise Missing("this host has no command git", hint="install it with pkg.install")
        if done.exit_code in fine:
            return None
        if done.exit_code:
            said = _public((done.stderr or done.stdout).decode("utf-8", "replace").strip())
            fatal = [line for line in said.splitlines() if line.startswith(("fatal:", "error:"))]
            first = (fatal or said.splitlines() or ["exit code %d" % done.exit_code])[0]
            hint = "the host itself must be able to log in" if "Permission denied" in said else ""
            if "dubious ownership" in said:  # its configuration could run any command as the current user
                hint = "run the task as the owner of %s, with become" % self.dest
            raise Failed("git %s: %s" % (words[0], first), hint=hint, detail=said)
        return done.stdout.decode("utf-8", "replace").strip()

    def observe(self) -> "Attributes | None":
        if not os.path.isdir(os.path.join(self.dest, ".git")):
            if os.path.isdir(self.dest) and os.listdir(self.dest):
                raise Failed("%s exists and is not a working copy" % self.dest)
            if not self._target and not self.host.offline:
                self._target = self._remote_commit()
            return None
        commit = self._git(["rev-parse", "--verify", "--quiet", "HEAD"], fine=(1, 128))
        url = self._git(["config", "--get", "remote.%s.url" % self.args.remote], fine=(1,))
        if not self._target:
            self._target = self._remote_commit() if self.args.update and not self.host.offline else commit or ""
        return {"commit": commit, "remote": _public(url or "")}

    def _remote_commit(self) -> "str":
        """Return the commit that `version` means at the remote; a hash means itself."""
        version: "str" = self.args.version
        listed = self._git(["ls-remote", "--", self.args.repo], inside=False) or ""
        refs = {}
        for line in listed.splitlines():
            at, _, ref = line.partition("\t")
            refs[ref] = at
        for name in ("refs/heads/%s", "refs/tags/%s^{}", "refs/tags/%s", "%s"):
            if name % version in refs:
                return refs[name % version]
        if _COMMIT.match(version):
            full = None
            if os.path.isdir(os.path.join(self.dest, ".git")):
                full = self._git(["rev-parse", "--verify", "--quiet", version + "^{commit}"], fine=(1, 128))
            return full or version
        raise Failed(
            "%s has no branch, tag or commit %s" % (_public(self.args.repo), version),
            hint="is it empty?" if not refs else "",
        )

    def desired(self, now: "Attributes | None") -> "Attributes | None":
        commit = self._target
        if now is not None and now["commit"] and commit and len(commit) < 40 and now["commit"].startswith(commit):
            commit = now["commit"]
        return {"commit": commit, "remote": _public(self.args.repo)}

    def way_back(self, before: "Attributes | None", after: "Attributes | None") -> "tuple[str, Arguments]":
        if before is None:
            raise Failed("a working copy is not removed: there may be local work in it")
        return self.name, dict(self.given(), version=before["commit"])

    def apply(self, change: "Change") -> "Attributes":
        args = self.args
        before = (change.before or {}).get("commit") or ""
        depth = ["--depth", str(args.depth)] if args.depth else []
        if change.before is None:
            parent = os.path.dirname(self.dest)
            if not os.path.isdir(parent):
                os.makedirs(parent)
            branch = ["--branch", args.version] if depth and args.version != "HEAD" and not self._is_hash() else []
            words = ["clone", "--origin", args.remote] + depth + branch + ["--no-checkout", "--", args.repo, self.dest]
            self._git(words, inside=False)
        else:
            if "remote" in change:
                known = (self._git(["remote"]) or "").split()
                self._git(["remote", "set-url" if args.remote in known else "add", args.remote, args.repo])
            changed = self._git(["status", "--porcelain", "--untracked-files=no"]) if before else ""
            if changed and "commit" in change and not args.force:
                raise Failed(
                    "Local modifications exist in the destination: %s (force=no)." % self.dest,
                    hint="set force = true to discard them",
                    detail=changed,
                )
        if "commit" in change or change.before is None:
            self._check_out(depth)
        now = self._git(["rev-parse", "HEAD"]) or ""
        if len(self._target) < len(now) and now.startswith(self._target):
            assert change.after is not None
            self._target = change.after["commit"] = now
        return {"before": before, "after": now}

    def _is_hash(self) -> "bool":
        return bool(self._target == self.args.version)

    def _check_out(self, depth: "list[str]") -> "None":
        args = self.args
        if self._git(["cat-file", "-e", self._target + "^{commit}"], fine=(1, 128)) is None:
            spec = self._target if depth and self._is_hash() else "+refs/heads/*:refs/remotes/%s/*" % args.remote
            self._git(["fetch", "--tags", "--force"] + depth + [args.remote, spec])
        branch = None
        if args.version != "HEAD" and not self._is_hash():
            branch = self._git(["rev-parse", "--verify", "--quiet", "refs/remotes/%s/%s" % (args.remote, args.version)],
                               fine=(1, 128))  # fmt: skip
        elif args.version == "HEAD":
            branch = self._git(["symbolic-ref", "--quiet", "--short", "HEAD"], fine=(1, 128))
        if branch:
            name = args.version if args.version != "HEAD" else branch
            self._git(["checkout", "--force", "-B", name, self._target])
            if args.version != "HEAD":
                self._git(["branch", "--set-upstream-to", "%s/%s" % (args.remote, name), name])
        else:
            self._git(["checkout", "--force", "--detach", self._target])
        if args.recursive and os.path.exists(os.path.join(self.dest, ".gitmodules")):
            self._git(["submodule", "sync", "--recursive"])
            self._git(["submodule", "update", "--init", "--recursive", "--force"] + depth)

    def result(self, now: "Attributes | None") -> "Attributes":
        commit = (now or {}).get("commit") or ""
        return {"before": commit, "after": commit}


def _public(text: "str") -> "str":
    """Return `text` without the passwords of the URLs in it."""
    return re.sub(r"(\w+://)[^/@\s]*:[^/@\s]*@", r"\1***@", text)
