"""Runs git: a working copy, what a version means at its remote, and the steps that bring one to the other."""

import errno
import os

from sloth.payload.kernel.resource import Failed, Missing
from sloth.payload.lib import files, unfinished
from sloth.payload.lib.atomic import remove_unfinished
from sloth.payload.lib.regex import expression, re

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Mapping, Sequence

    from sloth.payload.lib.host import Host

DEADLINE = 1800  # seconds for one git command
DEPLOYED = "refs/sloth-runner/"  # holds the commits that were checked out, so that git keeps them and they are known
_COMMIT = expression(r"^[0-9a-f]{7,64}$")


class Git(object):
    """The git command for one working copy, which need not exist yet; without a terminal."""

    def __init__(
        self, host: "Host", path: "str", environment: "Mapping[str, str]", options: "Sequence[str]" = ()
    ) -> "None":
        self._host = host
        self.path = path
        self._options = options
        self._environment = dict(environment, GIT_TERMINAL_PROMPT="0", LC_ALL="C")

    def inside(self, words: "list[str]", fine: "tuple[int, ...]" = ()) -> "str | None":
        """Run git in the working copy and return its output, or None for an exit code in `fine`.

        Raises Failed for other exit codes, Missing when there is no git.
        """
        if os.geteuid() != 0:
            return self._run(["-C", self.path], words, fine)
        # By descriptor, so that nobody can exchange a directory on the way for a link meanwhile.
        directory = files.open_directory(self.path)
        try:
            cwd = "/proc/self/fd/%d" % directory
            return self._run([], words, fine, cwd if os.path.exists(cwd) else self.path)
        finally:
            os.close(directory)

    def anywhere(self, words: "list[str]") -> "str | None":
        """Run git outside of the working copy, as in inside()."""
        return self._run([], words, ())

    def commit(self, name: "str") -> "str":
        """Return the commit that a ref or hash means in the working copy, "" when it has none."""
        return self.inside(["rev-parse", "--verify", "--quiet", name + "^{commit}"], fine=(1, 128)) or ""

    def has(self, name: "str") -> "bool":
        """Return whether the working copy has a file such as .gitmodules or .git/index."""
        return os.path.exists(os.path.join(self.path, name))

    def new_directory(self) -> "str":
        """Return a new path in the directory of sloth-runner's own files; it is removed if this process is killed."""
        path = os.path.join(self._host.directory, "clone-%s" % os.urandom(6).hex())
        unfinished.note(path)
        return path

    def move(self, path: "str", parent: "files.Parent") -> "None":
        """Copy what is in a directory to an empty one on another file system."""
        target = os.open(parent.base, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=parent.descriptor)
        try:
            done = self._host.run(["cp", "-a", path + "/.", "."], cwd="/proc/self/fd/%d" % target, timeout=DEADLINE)
        finally:
            os.close(target)
        if done.exit_code:
            raise Failed("the clone cannot be copied to %s" % self.path, detail=done.stderr.decode("utf-8", "replace"))

    def _run(
        self, options: "list[str]", words: "list[str]", fine: "tuple[int, ...]", cwd: "str | None" = None
    ) -> "str | None":
        argv = ["git", "-c", "advice.detachedHead=false", *self._options, *options, *words]
        try:
            done = self._host.run(argv, env=self._environment, cwd=cwd, timeout=DEADLINE)
        except FileNotFoundError:
            raise Missing("this host has no command git", hint="install it with pkg.install")
        if done.ended == "timeout":
            raise Failed("git %s did not end within %d seconds" % (words[0], DEADLINE))
        if done.exit_code in fine:
            return None
        if done.exit_code:
            raise self._failure(words[0], done.exit_code, (done.stderr or done.stdout).decode("utf-8", "replace"))
        return done.stdout.decode("utf-8", "surrogateescape").rstrip()

    def _failure(self, verb: "str", exit_code: "int", stderr: "str") -> "Failed":
        text = without_passwords(stderr.strip())
        fatal = [line for line in text.splitlines() if line.startswith(("fatal:", "error:"))]
        first = (fatal or text.splitlines() or ["exit code %d" % exit_code])[0]
        hint = "the host itself must be able to log in" if "Permission denied" in text else ""
        if "dubious ownership" in text:  # its configuration could run any command as the current user
            hint = "run the task as the owner of %s, with become" % self.path
        if "would be overwritten" in text:
            hint = "move the files away, or set force = true to overwrite them"
        return Failed("git %s: %s" % (verb, first), hint=hint, detail=text)


class Version(object):
    """What a version means: its commit (of a hash as much as was given), the remote's ref, and the local branch."""

    __slots__ = ("branch", "commit", "ref")

    def __init__(self, commit: "str", ref: "str" = "") -> "None":
        """ref: "" for a hash."""
        self.commit = commit
        self.ref = ref
        self.branch = ref[len("refs/heads/") :] if ref.startswith("refs/heads/") else ""

    def is_at(self, commit: "str | None") -> "bool":
        """Return whether a commit is this one."""
        return bool(commit) and bool(self.commit) and str(commit).startswith(self.commit)


def look_up(git: "Git", repo: "str", version: "str", remote: "str") -> "Version":
    """Return what `version` (a branch, tag, other ref, commit, or HEAD) means at the repository now. Raises Failed."""
    path = repo[len("file://") :] if repo.startswith("file://") else repo
    if path.startswith("/") and not os.path.exists(path):
        raise Missing("there is no repository %s" % repo)
    refs = {}
    for line in (git.anywhere(["ls-remote", "--", repo]) or "").splitlines():
        commit, _, ref = line.partition("\t")
        refs[ref] = commit
    for form in ("refs/heads/%s", "refs/tags/%s^{}", "refs/tags/%s", "%s^{}", "%s"):
        name = form % version
        if name in refs:
            ref = _default_branch(git, refs, remote) if version == "HEAD" else ""
            return Version(refs[name], ref or name.replace("^{}", ""))
    if _COMMIT.match(version):
        return Version((git.commit(version) if git.has(".git") else "") or version)
    hint = "" if refs else "it is empty"
    raise Failed("%s has no branch, tag or commit %s" % (without_passwords(repo), version), hint=hint)


def _default_branch(git: "Git", refs: "Mapping[str, str]", remote: "str") -> "str":
    """Return the ref of the branch that the remote's HEAD is; ls-remote of old gits names only its commit."""
    same = [ref for ref in refs if ref.startswith("refs/heads/") and refs[ref] == refs["HEAD"]]
    likely = ["refs/heads/main", "refs/heads/master"]
    if git.has(".git"):
        prefix = "refs/remotes/%s/" % remote
        head = git.inside(["symbolic-ref", "--quiet", prefix + "HEAD"], fine=(1, 128)) or ""
        likely.insert(0, head.replace(prefix, "refs/heads/"))
    return next((ref for ref in likely + same if ref in same), "")


# What is in a working copy


def is_checked_out(git: "Git") -> "bool":
    """Return whether git has ever written files here; a killed clone leaves .git without an index."""
    return not os.path.isdir(os.path.join(git.path, ".git")) or git.has(".git/index")


def modified(git: "Git", recursive: "bool") -> "list[str]":
    """Return the tracked files, and with `recursive` the submodules, that have local modifications."""
    words = ["status", "--porcelain", "-z", "--untracked-files=no", "--ignore-submodules=all"]
    entries = (git.inside(words) or "").split("\0")
    found = []
    while entries:
        entry = entries.pop(0)
        if entry[:1] in ("R", "C") and entries:
            entries.pop(0)  # the former name
        if entry:
            found.append(entry[3:])
    if recursive and git.has(".gitmodules"):
        script = (
            'test -z "$(git status --porcelain --untracked-files=no --ignore-submodules=all)"'
            ' || echo "${displaypath:-$path}"'
        )
        words = ["submodule", "--quiet", "foreach", "--recursive", script]
        found += (git.inside(words, fine=(1, 128)) or "").splitlines()
    return sorted(found)


def submodules_with_commits(git: "Git") -> "list[str]":
    """Return the submodules with commits that neither their remotes nor the working copy have."""
    if not git.has(".gitmodules"):
        return []
    script = (
        'test -z "$(git rev-list --max-count=1 HEAD --not --remotes --tags $sha1 2>/dev/null)"'
        ' || echo "${displaypath:-$path}"'
    )
    words = ["submodule", "--quiet", "foreach", "--recursive", script]
    return sorted((git.inside(words, fine=(1, 128)) or "").splitlines())


def misplaced_submodules(git: "Git") -> "list[str]":
    """Return the submodules that are not at the commit that the working copy names for them."""
    if not git.has(".gitmodules"):
        return []
    lines = (git.inside(["submodule", "status", "--recursive"], fine=(1, 128)) or "").splitlines()
    return sorted(line[1:].split(" ")[1] for line in lines if line[:1] in ("-", "+", "U"))


def has_commits_to_lose(git: "Git", branch: "str") -> "bool":
    """Return whether resetting `branch`, or leaving a detached HEAD, would lose commits that were made here."""
    names = ["refs/heads/" + branch] if branch else []
    if git.inside(["symbolic-ref", "--quiet", "HEAD"], fine=(1, 128)) is None:
        names.append("HEAD")
    names = [name for name in names if git.commit(name)]
    words = ["rev-list", "--max-count=1", *names, "--not", "--remotes", "--tags", "--glob=" + DEPLOYED]
    return bool(names) and bool(git.inside(words))


# Steps


def clone(git: "Git", repo: "str", version: "Version", remote: "str", depth: "int | None") -> "None":
    """Clone without checking anything out."""
    files.make_directories(os.path.dirname(git.path))
    with files.Parent(git.path):  # refuses a link on the way that is not to be trusted
        pass
    if os.geteuid() == 0 and files.is_exposed(git.path):
        return _clone_apart(git, repo, version, remote, depth)
    _clone(git, repo, git.path, version, remote, depth)


def _clone_apart(git: "Git", repo: "str", version: "Version", remote: "str", depth: "int | None") -> "None":
    """Clone where only root can write, and move the result: git itself follows links that others put on the way."""
    apart = git.new_directory()
    try:
        _clone(git, repo, apart, version, remote, depth)
        with files.Parent(git.path) as parent:
            try:
                os.rename(apart, parent.base, dst_dir_fd=parent.descriptor)
            except OSError as error:
                if error.errno != errno.EXDEV:
                    raise
                parent.mkdir()
                git.move(apart, parent)
    finally:
        remove_unfinished(apart)


def _clone(git: "Git", repo: "str", path: "str", version: "Version", remote: "str", depth: "int | None") -> "None":
    words = ["clone", "--no-checkout", "--origin", remote]
    if depth:
        words += ["--depth", str(depth)]
        kind, _, name = version.ref.partition("/")[2].partition("/")
        if kind in ("heads", "tags"):
            words += ["--branch", name]
    git.anywhere([*words, "--", repo, path])


def fetch(git: "Git", version: "Version", remote: "str", depth: "int | None") -> "None":
    """Bring the version's commit here, unless it is."""
    if git.commit(version.commit):
        return
    everything = ["--tags", "--force", remote, "+refs/heads/*:refs/remotes/%s/*" % remote]
    if depth:
        spec = version.ref or version.commit
        if version.branch:
            spec = "+%s:refs/remotes/%s/%s" % (spec, remote, version.branch)
        elif spec.startswith("refs/tags/"):
            spec = "+%s:%s" % (spec, spec)
        # A server may refuse to send a commit by its hash, and none sends one by a part of it.
        git.inside(["fetch", "--depth", str(depth), remote, spec], fine=() if version.ref else (1, 128))
    elif not version.ref or version.ref.startswith(("refs/heads/", "refs/tags/")):
        _fetch_all(git, everything, remote)
    else:
        git.inside(["fetch", remote, version.ref])
    if not git.commit(version.commit):
        _fetch_all(git, [*(["--unshallow"] if git.has(".git/shallow") else []), *everything], remote)
    if not git.commit(version.commit) and not version.ref:
        git.inside(["fetch", remote, version.commit])


def _fetch_all(git: "Git", words: "list[str]", remote: "str") -> "None":
    try:
        git.inside(["fetch", *words])
    except Failed as error:
        if "cannot lock ref" not in error.detail:
            raise
        # A branch `a` that is gone from the repository leaves no room here for its new branch `a/b`.
        git.inside(["remote", "prune", remote])
        git.inside(["fetch", *words])


def check_out(git: "Git", version: "Version", remote: "str", force: "bool") -> "None":
    """Check the version out; without `force` git refuses to overwrite what it does not know."""
    target = git.commit(version.commit) or version.commit
    words = ["checkout", "--force"] if force else ["checkout"]
    words += ["-B", version.branch] if version.branch else ["--detach"]
    git.inside([*words, target, "--"])
    if force:
        git.inside(["reset", "--hard", "--quiet", target])
    git.inside(["update-ref", DEPLOYED + "version", target])
    if version.branch:  # `git branch --set-upstream-to` refuses what a clone with a depth does not follow
        git.inside(["config", "branch.%s.remote" % version.branch, remote])
        git.inside(["config", "branch.%s.merge" % version.branch, version.ref])


def update_submodules(git: "Git", force: "bool") -> "None":
    """Bring every submodule to the commit that the working copy names for it; `force` discards changes in them."""
    if git.has(".gitmodules"):
        git.inside(["submodule", "sync", "--recursive"])
        words = ["submodule", "update", "--init", "--recursive"]
        git.inside([*words, "--force"] if force else words)


def without_passwords(text: "str") -> "str":
    """Return `text` without the passwords of the URLs in it."""
    return re.sub(r"(\w+://)[^/@\s]*:[^/@\s]*@", r"\1***@", text)
