"""git.clone: a working copy at a version."""

import os
import re

from sloth.payload.kernel.resource import REQUIRED, ArgumentError, DriftBy, Failed, Field, Missing, Resource

DEADLINE = 1800  # seconds for one git command
_COMMIT = re.compile(r"^[0-9a-f]{7,64}$")


class Clone(Resource):
    """Make sure that a working copy of a repository is at a version.

    The semantics are those of Ansible's git. A branch is looked up at the remote on every run. Local changes to files
    that git knows stop an update, unless `force` throws them away; files that it does not know stay.
    """

    name = "git.clone"
    subject = "dest"
    drift_by = DriftBy.RECORD
    fields = (
        Field("repo", "str", REQUIRED, aliases=("url",), help="the repository's URL or path"),
        Field("dest", "path", REQUIRED, help="the working copy's directory"),
        Field("version", "str", "HEAD", help="a branch, a tag, or a commit's hash"),
        Field("update", "bool", True, how=True, help="false: leave a working copy that is there as it is"),
        Field("depth", "int", how=True, help="fetch that many commits only"),
        Field("force", "bool", False, how=True, help="throw local changes away"),
        Field("recursive", "bool", True, how=True, help="with submodules"),
        Field("remote", "str", "origin", help="what the remote is called"),
        Field("key_file", "path", how=True, help="the private key on the host to log in with"),
        Field("accept_newhostkey", "bool", False, how=True, help="trust a host that is not known yet"),
        Field("ssh_opts", how=True, help="further options for ssh"),
    )
    returns = (
        Field("before", help="the commit that was there"),
        Field("after", help="the commit that is there"),
    )
    example = """task({name = "app", run = function()
    git.clone({repo = "https://example.com/app.git", dest = "/srv/app", version = "v1.2"})
end})"""

    @classmethod
    def check_together(cls, values):
        for name in ("repo", "version", "remote"):
            if values[name].startswith("-") or "\n" in values[name]:
                raise ArgumentError("%s: %s cannot begin with -: %s" % (cls.name, name, values[name]))
        if values.get("depth") is not None and values["depth"] < 1:
            raise ArgumentError("%s: depth must be at least 1" % cls.name)

    def __init__(self, args, host, assets=()):
        Resource.__init__(self, args, host, assets)
        self._target = None

    @property
    def dest(self):
        return self.host.expand(self.args.dest)

    def identity(self):
        return self.dest

    def _git(self, words, inside=True, fine=()):
        """Run git; return what it printed. Exit codes in `fine` give None; others raise Failed."""
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
            raise Missing("this host has no git", hint="install it, with pkg.install")
        if done.exit_code in fine:
            return None
        if done.exit_code:
            said = _public((done.stderr or done.stdout).decode("utf-8", "replace").strip())
            fatal = [line for line in said.splitlines() if line.startswith(("fatal:", "error:"))]
            first = (fatal or said.splitlines() or ["exit code %d" % done.exit_code])[0]
            hint = "the host must be able to log in by itself" if "Permission denied" in said else ""
            if "dubious ownership" in said:  # its configuration could run anything as us
                hint = "run the task as the owner of %s, with become" % self.dest
            raise Failed("git %s: %s" % (words[0], first), hint=hint, detail=said)
        return done.stdout.decode("utf-8", "replace").strip()

    def observe(self):
        if not os.path.isdir(os.path.join(self.dest, ".git")):
            if os.path.isdir(self.dest) and os.listdir(self.dest):
                raise Failed("%s is there, and is no working copy" % self.dest)
            if self._target is None and not self.host.offline:
                self._target = self._remote_commit()
            return None
        commit = self._git(["rev-parse", "--verify", "--quiet", "HEAD"], fine=(1, 128))
        url = self._git(["config", "--get", "remote.%s.url" % self.args.remote], fine=(1,))
        if self._target is None:
            self._target = self._remote_commit() if self.args.update and not self.host.offline else commit
        return {"commit": commit, "remote": _public(url or "")}

    def _remote_commit(self):
        """The commit that `version` means, as the remote says; a hash means itself."""
        version = self.args.version
        told = self._git(["ls-remote", "--", self.args.repo], inside=False) or ""
        refs = dict(line.split("\t")[::-1] for line in told.splitlines() if "\t" in line)
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

    def desired(self, now):
        commit = self._target
        if now is not None and now["commit"] and commit and len(commit) < 40 and now["commit"].startswith(commit):
            commit = now["commit"]
        return {"commit": commit, "remote": _public(self.args.repo)}

    def way_back(self, before, after):
        if before is None:
            raise Failed("a working copy is not removed: there may be work in it")
        return self.name, dict(self.given(), version=before["commit"])

    def apply(self, change):
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
                known = self._git(["remote"]).split()
                self._git(["remote", "set-url" if args.remote in known else "add", args.remote, args.repo])
            changed = self._git(["status", "--porcelain", "--untracked-files=no"]) if before else ""
            if changed and "commit" in change and not args.force:
                raise Failed(
                    "Local modifications exist in the destination: %s (force=no)." % self.dest,
                    hint="set force = true to throw them away",
                    detail=changed,
                )
        if "commit" in change or change.before is None:
            self._check_out(depth)
        now = self._git(["rev-parse", "HEAD"])
        if len(self._target) < len(now) and now.startswith(self._target):
            self._target = change.after["commit"] = now
        return {"before": before, "after": now}

    def _is_hash(self):
        return self._target == self.args.version

    def _check_out(self, depth):
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

    def result(self, now):
        commit = (now or {}).get("commit") or ""
        return {"before": commit, "after": commit}


def _public(text):
    """`text` without the passwords of the URLs in it."""
    return re.sub(r"(\w+://)[^/@\s]*:[^/@\s]*@", r"\1***@", text)
