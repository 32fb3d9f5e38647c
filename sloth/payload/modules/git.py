"""git.clone: a working copy of a repository at a version."""

import os

from sloth.payload.kernel.resource import REQUIRED, ArgumentError, DriftBy, Failed, Field, Resource
from sloth.payload.lib import files, git
from sloth.payload.lib.git_login import Login

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Sequence

    from sloth.payload.kernel.record import Asset
    from sloth.payload.kernel.resource import Args, Change
    from sloth.payload.kernel.values import Arguments, Attributes
    from sloth.payload.lib.host import Host


class Clone(Resource):
    """Make sure that a working copy of a repository exists and is at a version.

    The semantics are those of Ansible's git. A branch is looked up at the remote on every run. Local modifications of
    tracked files and commits that only the working copy has stop the call, unless `force` discards them. Untracked
    files are kept; one that the version would overwrite stops the call, too. What a killed or failed call has left
    (nothing checked out, submodules missing) is completed by the next one.

    Other than Ansible: commits that only the working copy has, and untracked files in the way, are discarded only with
    `force`.

    Other than Ansible: git gets the user name and password of an http(s) URL, and neither its arguments nor the
    configuration of the working copy do.

    Other than Ansible: a version may be any ref of the remote, such as refs/pull/7/head, with `depth`, too.

    Other than Ansible: there is no `bare`, `archive`, `separate_git_dir`, `reference`, `refspec`, `track_submodules`,
    `verify_commit` and `umask`.
    """

    name = "git.clone"
    makes_directory = True
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
        self._login = Login(args.repo)
        self._version = git.Version("")  # what `version` means, as soon as it was looked up
        self._has_local_commits = False
        self._submodules_with_commits: "list[str]" = []

    @property
    def dest(self) -> "str":
        return self.host.expand(self.args.dest)

    def identity(self) -> "str":
        return self.dest

    def _git(self) -> "git.Git":
        args = self.args
        ssh = ["ssh", "-o", "BatchMode=yes"]
        if args.key_file:
            ssh += ["-i", self.host.expand(args.key_file), "-o", "IdentitiesOnly=yes"]
        if args.accept_newhostkey:
            ssh += ["-o", "StrictHostKeyChecking=accept-new"]
        command = " ".join("'%s'" % word.replace("'", "'\\''") for word in ssh)
        environment = {"GIT_SSH_COMMAND": command + (" " + args.ssh_opts if args.ssh_opts else "")}
        return git.Git(self.host, self.dest, dict(environment, **self._login.environment), self._login.options)

    def observe(self) -> "Attributes | None":
        here = self._git()
        if not os.path.lexists(os.path.join(self.dest, ".git")):
            if os.path.lexists(self.dest) and (not os.path.isdir(self.dest) or os.listdir(self.dest)):
                raise Failed("%s exists and is not a working copy" % self.dest)
            self._look_up(here, "")
            return None
        here.inside(["rev-parse", "--git-dir"])  # fails with the reason when git refuses to work there
        commit = None
        if git.is_checked_out(here):
            commit = here.inside(["rev-parse", "--verify", "--quiet", "HEAD"], fine=(1, 128))
        self._look_up(here, commit or "")
        url = here.inside(["config", "--get", "remote.%s.url" % self.args.remote], fine=(1,))
        now: "Attributes" = {"commit": commit, "remote": git.without_passwords(url or ""), "modified": []}
        if self.args.recursive:
            now["submodules"] = git.misplaced_submodules(here) if commit else []
            if now["submodules"]:
                self._submodules_with_commits = git.submodules_with_commits(here)
        if commit:
            now["modified"] = git.modified(here, self.args.recursive)
            if not self._version.is_at(commit):
                self._has_local_commits = git.has_commits_to_lose(here, self._version.branch)
        return now

    def _look_up(self, here: "git.Git", commit: "str") -> "None":
        """Find out what the version means, once; `commit` is what is checked out, if anything is."""
        args = self.args
        if self._version.commit or self.host.offline:
            return
        if commit and not args.update:
            self._version = git.Version(commit)
        else:
            self._version = git.look_up(here, self._login.url, args.version, args.remote)

    def desired(self, now: "Attributes | None") -> "Attributes | None":
        desired: "Attributes" = {"commit": self._version.commit, "remote": git.without_passwords(self._login.url)}
        if now is not None and now["commit"]:
            if self._version.is_at(now["commit"]):
                desired["commit"] = now["commit"]
            if not self.args.update:
                return desired
            self._refuse_to_discard(now)
        desired["modified"] = []
        if self.args.recursive:
            desired["submodules"] = []
        return desired

    def _refuse_to_discard(self, now: "Attributes") -> "None":
        if self.args.force:
            return
        if now["modified"]:
            raise Failed(
                "Local modifications exist in the destination: %s (force=no)." % self.dest,
                hint="set force = true to discard them",
                detail="\n".join(now["modified"]),
            )
        if self._submodules_with_commits:
            raise Failed(
                "submodules of %s have commits that their remotes do not have" % self.dest,
                hint="push them, or set force = true to leave them",
                detail="\n".join(self._submodules_with_commits),
            )
        if self._has_local_commits:
            raise Failed(
                "%s has commits that %s does not have" % (self.dest, git.without_passwords(self.args.repo)),
                hint="push them, or set force = true to discard them",
            )

    def way_back(self, before: "Attributes | None", after: "Attributes | None") -> "tuple[str, Arguments]":
        if before is None or not before["commit"]:
            raise Failed("a working copy is not removed: there may be local work in it")
        return self.name, dict(self.given(), version=before["commit"])

    def apply(self, change: "Change") -> "Attributes":
        assert change.after is not None
        args, here = self.args, self._git()
        before = (change.before or {}).get("commit") or ""
        force = args.force or not before  # what a killed clone has left is nobody's work
        if change.before is None:
            git.clone(here, self._login.url, self._version, args.remote, args.depth)
        elif "remote" in change:
            known = (here.inside(["remote"]) or "").split()
            here.inside(["remote", "set-url" if args.remote in known else "add", args.remote, self._login.url])
        self._remove_stale_lock()
        if change.before is None or "commit" in change or "modified" in change:
            git.fetch(here, self._version, args.remote, args.depth)
            git.check_out(here, self._version, args.remote, force)
        if args.recursive:
            git.update_submodules(here, force)
        now = here.inside(["rev-parse", "HEAD"]) or ""
        if self._version.is_at(now):
            change.after["commit"] = self._version.commit = now
        return {"before": before, "after": now}

    def _remove_stale_lock(self) -> "None":
        """Remove the lock of a git that was killed: if none works here, nobody holds it."""
        if _is_git_at_work(self.dest):
            return
        try:
            with files.Parent(os.path.join(self.dest, ".git", "index.lock")) as parent:
                parent.unlink()
        except OSError:
            pass

    def result(self, now: "Attributes | None") -> "Attributes":
        commit = (now or {}).get("commit") or ""
        return {"before": commit, "after": commit}


def _is_git_at_work(path: "str") -> "bool":
    """Return whether a git of this host works in the working copy; True where that cannot be known."""
    real = os.path.realpath(path)
    try:
        processes = [name for name in os.listdir("/proc") if name.isdigit()]
    except OSError:
        return True
    for process in processes:
        is_git = False
        try:
            with open("/proc/%s/comm" % process, encoding="utf-8", errors="replace") as file:
                is_git = file.read().startswith("git")
            if is_git and (os.readlink("/proc/%s/cwd" % process) + "/").startswith(real + "/"):
                return True
        except FileNotFoundError:  # it has ended
            continue
        except OSError:
            if is_git:
                return True
    return not processes
