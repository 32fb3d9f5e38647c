"""What a run and its workers send each other: each message is a class, and so is each question."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from sloth.engine import events
from sloth.engine.events import Event, Skip, Summary
from sloth.engine.options import Options
from sloth.engine.resume import Resume
from sloth.engine.workers.asking import QUESTIONS, Question
from sloth.engine.workers.codec import Codec
from sloth.frozen import frozen
from sloth.inventory import Group, Host
from sloth.inventory.model import BecomeMethod, ConnectionType, HostKeyPolicy
from sloth.passwords import Passwords
from sloth.payload.kernel.findings import Restored
from sloth.payload.kernel.record import ReplicaChange
from sloth.payload.kernel.status import Reason, Status
from sloth.payload.session.messages import LockHolder
from sloth.playbook import Site, Task
from sloth.playbook.requests import LogLevel
from sloth.playbook.task_options import Hook, OnFailure, Share
from sloth.state.backends.backend import Entry
from sloth.state.memory import Known, Seen

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sloth.payload.kernel.values import Json, JsonObject


@frozen
class Message:
    """Base of all messages."""


# From the run to a worker


@frozen
class HostList(Message):
    """The inventory, as far as a worker needs it. variables: of each host, as variables.py writes them."""

    paths: tuple[Path, ...]
    hosts: tuple[Host, ...]
    groups: tuple[Group, ...]
    variables: tuple[JsonObject, ...]


@frozen
class SiteFiles(Message):
    """Files of the site for a worker on another machine.

    Attributes:
        files: path -> mode and contents; directories have no contents.
        links: path -> where it leads: to a directory that is there under another name, or nowhere.
        withheld: path -> why it stays on the run's machine, or cannot be read there.
    """

    files: Mapping[str, tuple[int, bytes | None]]
    links: Mapping[str, str]
    withheld: Mapping[str, str]


@frozen
class Job(Message):
    """A part of a run; the messages before it are what it needs.

    Attributes:
        hosts: the names of those to work on.
        others: those of the other workers.
        forks: how many to work on at the same time.
        is_stepping: whether the user is asked before each task.
        secrets: what must be hidden from the beginning.
        answers, typed, given: of the site's questions to the user; see Prompts.
        directory: of the controller's database, for a worker on the same machine; None for one on another.
        backend: the address of what keeps shared values, for errors, and its limit of a value.
        environment: variables of the run's process: for a worker on another machine only those that the site names.
        home: of the user of the run; on another machine what is below it is looked for below that of the worker's.
        cwd: the directory in which the run was started.
    """

    run_id: str
    site: Site
    options: Options
    hosts: tuple[str, ...]
    others: frozenset[str]
    forks: int
    is_stepping: bool
    secrets: tuple[str, ...]
    answers: Mapping[str, str]
    typed: tuple[str, ...]
    given: Mapping[str, Json]
    directory: Path | None
    replicate_to: str | None
    known: Mapping[str, Known]
    backend: str
    backend_limit: int
    clock_error: float
    environment: Mapping[str, str]
    home: str
    cwd: Path
    who: str
    origin: str


@frozen
class Answer(Message):
    """The answer to a question, which can be any of these."""

    number: int
    value: Skip | Entry | object


@frozen
class Refusal(Message):
    """The error in place of an answer. kind: the name of its class."""

    number: int
    kind: str
    text: str
    hint: str


@frozen
class Stopped(Message):
    """No host begins another task."""

    skip: Skip


@frozen
class Interrupt(Message):
    """The user has interrupted the run; the second time, hosts are cut off."""


# From a worker to the run


@frozen
class Ask(Message):
    """A question, which an Answer or a Refusal of the same number answers."""

    number: int
    question: Question


@frozen
class Withdraw(Message):
    """Nobody waits for an answer any more."""

    number: int


@frozen
class Happened(Message):
    """An event, without secrets."""

    event: Event


@frozen
class Declared(Message):
    """What the run needs to know of a task, sent before its number is used."""

    number: int
    task: Task


@frozen
class Loaded(Message):
    """A host has loaded the site: the names of its tasks in order, of all that are declared, and the tags of all."""

    host: str
    plan: tuple[str, ...]
    declared: tuple[str, ...]
    tags: frozenset[str]


@frozen
class Passed(Message):
    """A host has ended a task."""

    host: str
    number: int
    failed: bool


@frozen
class Ended(Message):
    """A host has ended."""

    host: str


@frozen
class Complete(Message):
    """A host has come to the end of its tasks and handlers."""

    host: str


@frozen
class Refused(Message):
    """A saved plan does not fit a host any more."""

    host: str


@frozen
class HostFacts(Message):
    """The facts of a host, without secrets."""

    host: str
    facts: JsonObject


@frozen
class Learned(Message):
    """Secrets, sent before anything in which they could be shown."""

    values: tuple[str, ...]


@frozen
class Delegated(Message):
    """The calls to a delegate have ended: it is another worker's turn."""

    delegate: str


@frozen
class Remember(Message):
    """What a session on another machine has shown of an agent."""

    seen: Seen


@frozen
class Done(Message):
    """The worker has worked on all its hosts; failed: whether something did that no host's end says."""

    failed: bool


MESSAGES: tuple[type, ...] = (
    Answer, Ask, Complete, Declared, Delegated, Done, Ended, Happened, HostFacts, HostList, Interrupt, Job,
    Learned, Loaded, Message, Passed, Refusal, Refused, Remember, SiteFiles, Stopped, Withdraw,
)  # fmt: skip
EVENTS: tuple[type, ...] = (
    Event, events.RunStarted, events.HostStarted, events.HostPhase, events.SessionOpened, events.TaskStarted,
    events.CallOutput, events.Log, events.CallFinished, events.TaskFinished, events.OrphansFound, events.HostFinished,
    events.RunFinished,
)  # fmt: skip
VALUES: tuple[type, ...] = (
    BecomeMethod, ConnectionType, Entry, Group, Hook, Host, HostKeyPolicy, Known, LockHolder, LogLevel, OnFailure,
    Options, Passwords, Reason, ReplicaChange, Restored, Resume, Seen, Share, Site, Skip, Status, Summary, Task,
    events.Handled, events.Phase, events.PhaseKind, events.Result, events.SkipKind,
)  # fmt: skip
CODEC = Codec(
    (*MESSAGES, *QUESTIONS, *EVENTS, *VALUES),
    # Keys stay with the run, which is asked for secrets; of Prompts and variables the Job has what is needed.
    omitted=(
        ("Options", "keys"),
        ("Options", "prompts"),
        ("Host", "vars"),
        ("Resume", "finished"),
        ("Resume", "changes"),
    ),
)
