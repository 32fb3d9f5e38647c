"""Messages of workers: everything that is sent arrives as it was, and nothing else is accepted."""

from __future__ import annotations

import dataclasses
import json
from enum import Enum
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sloth.engine.events import CallFinished, CallOutput, Result, Skip, SkipKind, Status, TaskFinished
from sloth.engine.workers import variables
from sloth.engine.workers.asking import QUESTIONS, Agreed, WriteEntry
from sloth.engine.workers.channel import Prefix
from sloth.engine.workers.codec import Codec, Malformed
from sloth.engine.workers.messages import CODEC, EVENTS, MESSAGES, VALUES, Answer, Ask, Happened, Remember, SiteFiles
from sloth.inventory.templated import Encrypted, Literal, Templated
from sloth.payload.kernel.findings import Restored, RestoreStatus
from sloth.payload.kernel.record import ReplicaChange
from sloth.payload.kernel.status import Reason
from sloth.state.backends.backend import Entry
from sloth.state.memory import Seen

if TYPE_CHECKING:
    from sloth.engine.workers.messages import Message
    from sloth.payload.kernel.values import Json

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


def sent(message: Message) -> object:
    (received,) = CODEC.decode(CODEC.encode([message]))
    return received


@pytest.mark.parametrize("cls", [*MESSAGES, *QUESTIONS, *EVENTS, *VALUES], ids=lambda cls: cls.__name__)
def test_every_class_can_be_read(cls: type) -> None:
    if dataclasses.is_dataclass(cls):
        CODEC._reader(cls)


@given(st.text(), JSON, st.sampled_from(list(Status)), st.sampled_from(list(Reason)), st.lists(st.text(), max_size=3))
def test_results_arrive_as_they_were(text: str, value: Json, status: Status, reason: Reason, words: list[str]) -> None:
    result = Result(text, "file.copy", status, reason, values={"v": value}, warnings=tuple(words), diff={text: {}})
    received = sent(Happened(CallFinished(1.5, "h", text, result)))
    assert isinstance(received, Happened)
    assert isinstance(received.event, CallFinished)
    assert received.event.result.status is status
    assert received.event.result.reason is reason
    for field in dataclasses.fields(Result):
        assert getattr(received.event.result, field.name) == getattr(result, field.name)


@given(st.binary(), st.text())
def test_bytes_and_what_is_no_utf8_arrive(data: bytes, text: str) -> None:
    assert sent(Ask(1, WriteEntry(text, data, None))) == Ask(1, WriteEntry(text, data, None))
    odd = data.decode("utf-8", "surrogateescape")
    received = sent(Happened(CallOutput(1.0, "h", "t", "c", "stdout", odd)))
    assert isinstance(received, Happened)
    assert isinstance(received.event, CallOutput)
    assert received.event.data == odd


@pytest.mark.parametrize(
    "message",
    [
        Answer(1, Skip(SkipKind.BATCH, "t", "h")),
        Answer(1, Entry(b"\0\xff", "v")),
        Answer(1, None),
        Answer(1, True),
        Answer(1, ["a", "b"]),
        Ask(2, Agreed("h", (Restored(key="k", status=RestoreStatus.PLANNED),))),
        Remember(Seen("h", "p", frozenset("ab"), ReplicaChange(id="i", seq=3), ({"a": 1},), None)),
        SiteFiles({"/a": (0o755, None), "/a/b": (0o600, b"\xff")}, {"/c": "/a"}, {"/a/.d": "it stays"}),
    ],
    ids=lambda message: type(message).__name__,
)
def test_messages_arrive_as_they_were(message: Message) -> None:
    assert sent(message) == message


def test_a_skip_in_an_event_is_one() -> None:
    received = sent(Happened(TaskFinished(1.0, "h", "t", Status.SKIPPED, 0.0, skip=Skip(SkipKind.WHEN))))
    assert isinstance(received, Happened)
    assert isinstance(received.event, TaskFinished)
    assert received.event.skip == Skip(SkipKind.WHEN)


@pytest.mark.parametrize(
    "data",
    [
        '[["os.system", "true"]]', '[["Path", "/"]]', '[[]]', '[1]', '{}', 'x', '[["Ended"]]', '[["Ended", 1]]',
        '[["Ended", "h", "more"]]', '[["Ask", "1", ["Clock"]]]', '[["Ask", 1, ["Ended", "h"]]]',
        '[["Happened", ["Skip", "when", "", ""]]]', '[["Passed", "h", 1, 0]]', '[["Stopped", ["Skip", "no", "", ""]]]',
        '[["Learned", "abc"]]', '[["Ask", 1, ["WriteEntry", "k", "not base64!", null]]]',
        pytest.param("[" * 100_000, id="deep"),
    ],
)  # fmt: skip
def test_what_no_worker_sends_is_refused(data: str) -> None:
    with pytest.raises(Malformed):
        CODEC.decode(data.encode())


def test_objects_of_other_classes_do_not_travel() -> None:
    with pytest.raises(TypeError, match="object does not travel"):
        CODEC.encode([Answer(1, object())])


def test_variables_keep_what_is_no_plain_data() -> None:
    own: dict[str, Json] = {
        "plain": {"a": [1, None, {"b": "{{"}]},
        "templated": Templated(["{{ x }}", Literal("{{ no }}"), {"k": Encrypted("f:2")}], "f:1"),
        "encrypted": Encrypted("f:3"),
        "number": 1.5,
    }
    read = variables.read(json.loads(json.dumps(variables.written(own))))
    assert read == own
    value = read["templated"]
    assert isinstance(value, Templated)
    assert isinstance(value.value, list)
    assert type(value.value[1]) is Literal


def test_paths_of_a_worker_are_those_of_the_run() -> None:
    data = CODEC.encode([Ask(1, WriteEntry("/dev/shm/x-1/home/site", b"", None))])
    assert Prefix("/dev/shm/x-1").remove(data) == CODEC.encode([Ask(1, WriteEntry("/home/site", b"", None))])


class Colour(Enum):
    RED = "red"


@dataclasses.dataclass(frozen=True)
class Sample:
    field: Any = None


def read(annotation: str, value: object) -> object:
    """What a field of this annotation is when `value` was sent."""
    cls = dataclasses.make_dataclass("Sample", [("field", annotation)])
    (found,) = Codec([cls, Colour]).decode(json.dumps([["Sample", value]]).encode())
    return found.field  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("annotation", "sent", "expected"),
    [
        ("int | None", None, None),
        ("int | str", "a", "a"),
        ("int | str | None", None, None),
        ("int | str | None", 5, 5),
        ("tuple[None, ...]", [None, None], (None, None)),
        ("tuple[int | str | None, ...]", [None, 1, "a"], (None, 1, "a")),
        ("dict[str, int | None]", {"a": None, "b": 1}, {"a": None, "b": 1}),
        ("dict[str, Json]", {"a": [1]}, {"a": [1]}),
        ("Sequence[Path]", ["/a"], [Path("/a")]),
        ("tuple[str, bytes]", ["a", "AA=="], ("a", b"\0")),
        ("Literal['a', 2]", 2, 2),
        ("set[Colour]", ["red"], {Colour.RED}),
    ],
)
def test_what_a_class_declares_is_read(annotation: str, sent: object, expected: object) -> None:
    found = read(annotation, sent)
    assert found == expected
    assert type(found) is type(expected)


@pytest.mark.parametrize(
    ("annotation", "sent"),
    [
        ("int | str", [1]),
        ("int | str | None", 1.5),
        ("int | str", None),
        ("tuple[None, ...]", [1]),
        ("dict[str, int]", [1]),
        ("dict[str, Json]", [1]),
        ("dict[str, int]", {"a": "1"}),
        ("Path", 1),
        ("Path", None),
        ("bytes", [1]),
        ("tuple[str, bytes]", ["a"]),
        ("tuple[str, ...]", "abc"),
        ("Literal['a', 2]", 3),
        ("Colour", "blue"),
        ("bool", 1),
        ("int", True),
    ],
)
def test_what_a_class_does_not_declare_is_refused(annotation: str, sent: object) -> None:
    with pytest.raises(Malformed):
        read(annotation, sent)


@pytest.mark.parametrize(
    ("annotation", "problem"),
    [
        ("Missing", "Missing does not travel"),
        ("tuple[Missing, ...]", "Missing does not travel"),
        ("dict[int, str]", "JSON has no other keys than texts"),
        ("deque[int]", "a field of this type does not travel: deque"),
        ("os.PathLike", r"a field of this type does not travel: os\.PathLike"),
    ],
)
def test_a_field_that_cannot_travel_is_found_when_its_class_is_declared(annotation: str, problem: str) -> None:
    """test_every_class_can_be_read() looks at all classes that there are."""
    cls = dataclasses.make_dataclass("Odd", [("field", annotation)])
    with pytest.raises(TypeError, match=problem):
        Codec([cls])._reader(cls)


def test_what_json_does_not_know_is_written_as_it_is_read() -> None:
    codec = Codec([Sample])
    for value, written in (
        (Colour.RED, '"red"'),
        (MappingProxyType({"a": 1}), '{"a":1}'),
        (Path("/a"), '"/a"'),
        (b"\0", '"AA=="'),
        (frozenset([1]), "[1]"),
    ):
        assert codec.encode([Sample(value)]) == f'[["Sample",{written}]]'.encode()
