"""The options of a run, as one value from the command line to the last host."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import field
from typing import TYPE_CHECKING

from sloth.engine.prompts import Prompts
from sloth.frozen import frozen
from sloth.passwords import Passwords
from sloth.state.keys import Keys

if TYPE_CHECKING:
    from sloth.engine.resume import Resume
    from sloth.payload.kernel.values import Json
    from sloth.playbook import Task


@frozen
class Options:
    """How to run a site.

    Attributes:
        eager: whether every call waits for its reply.
        linear: whether all hosts end a task before one begins the next.
        forks: how many hosts are worked on at the same time.
        lock_wait: how many seconds to wait for another run's lock of a host.
        extra: variables that override all others.
        custom: what custom.load() returned.
        prune: whether what the site no longer names is removed.
        adopt: whether the present state is recorded, and nothing changed.
        start_at: host -> the name of the first task that it runs; a host without one begins with its first.
        keys: of the vault beside the site.
        resume: what need not run, since the run that is resumed has done it.
        prompts: the site's questions to the user, and their answers.
        workers: the processes among which the hosts are divided; 0: this one alone.
        engine: the URL of the engine whose workers work on the hosts; "": none does.
        engine_from: what names it, such as --engine.
        near: host -> names and resources of the engine's workers that are near it; a host without any gets any worker.
        only_near: whether a run is refused in which a host has no worker near it.
        command: the command line, for the record; values of variables are not in it.
        limit: the pattern that selected the hosts, for the record.
        plan: the id of the saved plan that is applied, for the record.
    """

    check: bool = False
    eager: bool = False
    linear: bool = False
    forks: int = 50
    tags: tuple[str, ...] = ()
    skip_tags: tuple[str, ...] = ()
    lock_wait: float = 10.0
    extra: Mapping[str, Json] = field(default_factory=dict)
    custom: Mapping[str, bytes] = field(default_factory=dict, repr=False)
    prune: bool = False
    adopt: bool = False
    start_at: Mapping[str, str] = field(default_factory=dict)
    keys: Keys = field(default_factory=Keys, repr=False)
    passwords: Passwords = Passwords()
    resume: Resume | None = None
    prompts: Prompts = field(default_factory=Prompts, repr=False)
    workers: int = 0
    engine: str = ""
    engine_from: str = ""
    near: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    only_near: bool = False
    command: tuple[str, ...] = ()
    limit: str = ""
    plan: str = ""

    def from_start(self, host: str, tasks: Sequence[Task]) -> Sequence[Task]:
        """Return the tasks from that on with which `host` begins; none when it is not among them."""
        name = self.start_at.get(host)
        at = 0 if name is None else next((at for at, task in enumerate(tasks) if task.name == name), len(tasks))
        return tasks[at:]

    def selects(self, tags: tuple[str, ...]) -> bool:
        """Return whether a task with these tags runs. "always" and "never" mean what they do in Ansible."""
        if any(tag in self.skip_tags for tag in tags):
            return False
        if "always" in tags and "always" not in self.skip_tags:
            return True
        if self.tags:
            return any(tag in self.tags for tag in tags)
        return "never" not in tags
