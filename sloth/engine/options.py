"""What a run is asked to do, as one plain value from the command line to the last host."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from sloth.state.keys import Keys


@dataclass(frozen=True)
class Options:
    """How to run a site. forks: hosts worked on at once; lock_wait: seconds; extra: variables that override all."""

    check: bool = False
    eager: bool = False
    forks: int = 50
    tags: tuple[str, ...] = ()
    skip_tags: tuple[str, ...] = ()
    lock_wait: float = 10.0
    extra: Mapping[str, Any] = field(default_factory=dict)
    custom: Mapping[str, bytes] = field(default_factory=dict, repr=False)  # what custom.load() returned
    prune: bool = False  # remove what the site no longer names
    adopt: bool = False  # record what is there already, and change nothing
    keys: Keys = field(default_factory=Keys, repr=False)  # of the secrets beside the site
    become_password: str | None = field(default=None, repr=False)

    def selects(self, tags: tuple[str, ...]) -> bool:
        """Whether a task with these tags is to run; "always" and "never" as in Ansible."""
        if any(tag in self.skip_tags for tag in tags):
            return False
        if "always" in tags and "always" not in self.skip_tags:
            return True
        if self.tags:
            return any(tag in self.tags for tag in tags)
        return "never" not in tags
