"""The quick reader of replies reads what Reply.read() reads, and refuses what it refuses."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as some

from sloth.payload.kernel.status import Reason, Status
from sloth.payload.kernel.value import InvalidValue
from sloth.payload.session import messages, wire
from sloth.payload.session.messages import Reply
from sloth.transport import replies

plain = some.one_of(
    some.none(), some.booleans(), some.integers(), some.floats(allow_nan=False), some.text(max_size=3),
    some.lists(some.text(max_size=2), max_size=2), some.dictionaries(some.text(max_size=2), some.integers()),
)  # fmt: skip
right = {
    "id": some.integers(0, 9),
    "status": some.sampled_from([one.value for one in Status]),
    "reason": some.sampled_from([one.value for one in Reason]),
    "values": some.dictionaries(some.text(max_size=2), plain, max_size=2),
    "seconds": some.floats(0, 9),
    "unknown": some.booleans(),
    "invalid": some.booleans(),
    "warnings": some.lists(some.text(max_size=2), max_size=2),
    "diff": some.just({"mode": {"before": 1, "after": 2}}),
    **{name: some.text(max_size=3) for name in ("key", "msg", "error", "hint", "detail")},
}

rest = {name: values for name, values in right.items() if name not in ("id", "status")}


def read(reader: type[messages.Message], data: object) -> object:
    try:
        return reader.read(data)
    except InvalidValue as error:
        return error.message


@given(
    some.fixed_dictionaries({"id": right["id"], "status": right["status"]}, optional=rest),
    some.dictionaries(some.sampled_from([*Reply.fields, "more"]), plain, max_size=1),
)
def test_both_read_the_same(data: dict[str, object], wrong: dict[str, object]) -> None:
    data.update(wrong)
    quick, slow = read(replies.MESSAGES["reply"], data), read(Reply, data)
    assert quick == slow
    assert type(quick) is type(slow)


CHANGED = {"id": 1, "status": "changed"}
UNUSUAL: list[dict[str, object]] = [
    {"reason": "splendid"}, {"status": "splendid"}, {"seconds": 1}, {"seconds": "1"}, {"id": True}, {"id": -1},
    {"id": 2**63}, {"unknown": 1}, {"invalid": None}, {"key": None}, {"detail": 1}, {"values": []}, {"reason": None},
]  # fmt: skip


@pytest.mark.parametrize("unusual", UNUSUAL, ids=str)
def test_what_is_unusual_is_read_or_refused_the_same(unusual: dict[str, object]) -> None:
    data = {**CHANGED, **unusual}
    assert repr(read(replies.MESSAGES["reply"], data)) == repr(read(Reply, data))  # 1 == 1.0, and is another value


@pytest.mark.parametrize("data", [None, [], "x", {}, {"id": 1}, {"status": "changed"}])
def test_what_is_no_reply(data: object) -> None:
    assert read(replies.MESSAGES["reply"], data) == read(Reply, data)


def test_every_field_is_there() -> None:
    (frame,) = wire.Decoder(replies.MESSAGES).feed(wire.pack(Reply(id=1, status=Status.CHANGED)))
    assert isinstance(frame, Reply)
    assert json.dumps(frame.shown()) == json.dumps(Reply(id=1, status=Status.CHANGED).shown())
    frame.warnings.append("its own")
    (other,) = wire.Decoder(replies.MESSAGES).feed(wire.pack(Reply(id=2, status=Status.CHANGED)))
    assert isinstance(other, Reply)
    assert not other.warnings
