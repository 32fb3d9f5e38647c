"""What redaction hides: every way in which a secret may stand in a text, a stream or an event."""

from __future__ import annotations

import base64
import dataclasses
import html
import json
import os
import re
import shlex
import textwrap
import urllib.parse
from collections.abc import Callable
from pathlib import Path
from unittest import mock

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sloth.engine import events
from sloth.engine.secrets import Secrets
from sloth.payload.kernel.findings import Restored, RestoreStatus
from sloth.payload.kernel.redact import MASK, Redactor, View
from sloth.payload.kernel.resource import Args, Resource
from sloth.payload.kernel.status import Reason, Status
from sloth.payload.lib.host import Host
from sloth.payload.session.messages import LockHolder
from sloth.playbook import LogLevel
from sloth.state.keys import Keys

VALUES = st.text(st.characters(exclude_categories=("Cs",)), min_size=5, max_size=60).filter(lambda text: text.strip())


@given(VALUES, st.sampled_from(["", "'", '"', "it's"]))
def test_a_secret_is_found_however_a_message_quotes_it(value: str, beside: str) -> None:
    redactor = Redactor([value])
    quoted = [repr(beside + value), json.dumps(beside + value), shlex.quote(beside + value), f"{beside}{value}\n"]
    for text in quoted:
        assert MASK in redactor.text(f"cannot open {text}: no such file"), text


ENCODED = {
    "URL": urllib.parse.quote,
    "URL with slashes": lambda value: urllib.parse.quote(value, safe=""),
    "form": urllib.parse.quote_plus,
    "XML": html.escape,
    "base64 within something": lambda value: base64.b64encode(b"user:" + value.encode() + b":").decode(),
    "base64 of a URL": lambda value: base64.urlsafe_b64encode(value.encode()).decode(),
    "base64 in lines": lambda value: base64.encodebytes(value.encode()).decode(),
    "base64 of openssl": lambda value: "\n".join(textwrap.wrap(base64.b64encode(value.encode()).decode(), 64)),
    "sed": lambda value: value.replace("'", "'\\''"),
    "lower case": str.lower,
}


@pytest.mark.parametrize("encode", ENCODED.values(), ids=ENCODED)
@given(value=VALUES.map(lambda text: text + "pässwörd/1 & <'\">"))
def test_a_secret_is_found_as_tools_encode_it(encode: Callable[[str], str], value: str) -> None:
    text = encode(value)
    shown = Redactor([value]).text(f"login {text} failed")
    assert MASK in shown
    left = shown.replace("login ", "").replace(" failed", "").replace(MASK, " ")
    # Of base64 the characters at both ends belong to what is beside the secret, too; an end of a line may be short.
    assert all(len(part) < 12 for part in left.split()), (text, shown)


def test_many_secrets_are_read_one_by_one() -> None:
    """Each of them is prepared once: 500 took half a minute when the pattern was made for each."""
    redactor = Redactor()
    with mock.patch("re.compile", side_effect=re.compile) as compiled:
        for number in range(500):
            redactor.add([f"secret-number-{number}"])
        assert redactor.text("it is secret-number-17.") == f"it is {MASK}."
    assert compiled.call_count == 1


def _key() -> bytes:
    return b"k"


@pytest.mark.parametrize("mark", ["...", "~"])
def test_a_key_that_was_cut_within_a_secret(mark: str) -> None:
    redactor = Redactor(["correct horse battery"], _key)
    cut = f"exec:run:login correct horse{mark}0123456789ab"
    assert redactor.key(cut).startswith(f"exec:run:login {MASK}~")
    assert redactor.key(cut) != redactor.key(f"exec:run:login correct horse{mark}0123456789ac")
    whole = f"exec:run:login 'correct horse battery' and more{mark}0123456789ab"
    assert redactor.key(whole).startswith(f"exec:run:login '{MASK}' and more{mark}~")
    assert "0123456789ab" not in redactor.key(whole)
    assert redactor.key(f"exec:run:login corr{mark}0123456789ab").startswith(f"exec:run:login {MASK}~")
    for other in (
        f"exec:run:login cor{mark}0123456789ab",
        f"exec:run:nothing of it{mark}0123456789ab",
        f"exec:run:ends with c{mark}0123456789ab",
        "file:copy:/x",
    ):
        assert redactor.key(other) == other


def secrets_of(value: str) -> Secrets:
    """Return the secrets of a site that has read this one."""
    with mock.patch.dict(os.environ, {"SLOTH_SECRET_S": value}):
        secrets = Secrets([Path()], Keys())
        assert secrets.get("s", Path()) == value
    return secrets


LINES = st.lists(st.text("abcä密\U0001f511\r\t'", min_size=1, max_size=14), min_size=1, max_size=5)
WORDS = st.text("xyz 0123\n", max_size=20)


@given(LINES.map("\n".join).filter(lambda text: len(text.strip()) > 4), WORDS, WORDS, WORDS, st.data())
def test_a_stream_shows_what_the_whole_would(
    value: str, first: str, between: str, last: str, data: st.DataObject
) -> None:
    secrets = secrets_of(value)
    text = f"{first}{value}{between}{value}{last}"
    raw = text.encode()
    cuts = sorted(data.draw(st.lists(st.integers(0, len(raw)), max_size=6)))
    pieces = [raw[start:end] for start, end in zip([0, *cuts], [*cuts, len(raw)], strict=True)]
    shown = []
    for piece in pieces:
        output = events.CallOutput(0.0, "h", "t", "c", "stdout", piece.decode("utf-8", "surrogateescape"))
        shown += secrets.events(output)
    shown += secrets.events(events.HostFinished(0.0, "h", Status.CHANGED, 0.0))
    assert "".join(event.data for event in shown if isinstance(event, events.CallOutput)) == secrets.redact(text)


def test_bytes_that_are_no_text_are_shown_as_they_came() -> None:
    secrets = secrets_of("correct horse")
    data = b"\xff\xd0 correct \xd0".decode("utf-8", "surrogateescape")
    shown = secrets.events(events.CallOutput(0.0, "h", "t", "c", "stdout", data))
    shown += secrets.events(events.HostFinished(0.0, "h", Status.CHANGED, 0.0))
    assert "".join(event.data for event in shown if isinstance(event, events.CallOutput)) == data


@pytest.mark.parametrize(
    ("text", "held"),
    [("done\n", ""), ("c", "c"), ("a coc", "c"), ("a correct hors", "correct hors"), ("a correct horse", ""), ("", "")],
)
def test_only_what_may_begin_a_secret_is_held_back(text: str, held: str) -> None:
    shown, rest = Redactor(["correct horse"]).stream(text)
    assert rest == held
    assert shown == text.removesuffix(held).replace("correct horse", MASK)


def filled(kind: str, text: str) -> object:
    """Return a value of a field's type with `text` wherever a text may be."""
    values: dict[str, object] = {
        "str": text, "str | None": text, "float": 1.0, "bool": True, "int": 1, "Status": Status.FAILED,
        "Reason": Reason.DRIFT, "LogLevel": LogLevel.WARN, "tuple[str, ...]": (text,),
        "Diff | None": {text: {"before": text, "after": [text, {text: text}]}}, "Attributes": {text: [text, (text,)]},
        "Phase": events.Phase(events.PhaseKind.LOCKED, holder=LockHolder(run=text, who=text), task=text),
        "Skip | None": events.Skip(events.SkipKind.DEPENDENCY, text, text), "Summary": events.Summary(),
        "tuple[Restored, ...]": (Restored(key=text, status=RestoreStatus.DONE, msg=text, diff={text: {"a": text}}),),
        "Result": None, "Handled": events.Handled.RESCUED,
    }  # fmt: skip
    return fill(events.Result, text) if kind == "Result" else values[kind]


def fill(cls: type, text: str) -> object:
    return cls(**{field.name: filled(str(field.type), text) for field in dataclasses.fields(cls)})


def is_kind(one: object) -> bool:
    return isinstance(one, type) and issubclass(one, events.Event) and one is not events.Event


# Not __subclasses__(): a class that dataclass() has replaced by one with slots stays there until it is collected.
KINDS = [one for one in vars(events).values() if is_kind(one)]


@pytest.mark.parametrize("cls", KINDS, ids=lambda cls: str(cls.__name__))
def test_every_field_of_every_event_is_redacted(cls: type[events.Event]) -> None:
    event = fill(cls, "say correct horse twice")
    assert isinstance(event, events.Event)
    (shown,) = secrets_of("correct horse").events(event)
    assert type(shown) is cls
    assert "horse" in repr(event) or cls is events.RunFinished or "run_id" in repr(event)
    assert "horse" not in repr(shown)


@pytest.mark.parametrize(("before", "shown"), [(0, 0), (1, 2), (2, 3)])
def test_no_character_of_a_secret_in_base64_is_left(before: int, shown: int) -> None:
    """Only the characters that hold bits of what is beside it."""
    whole = base64.b64encode(b"x" * before + b"correct horse battery" + b"y" * (9 - before)).decode()
    assert Redactor(["correct horse battery"]).text(whole).index(MASK) == shown


def test_a_pattern_is_made_once_for_all_texts() -> None:
    redactor = Redactor(["correct horse"])
    redactor.text("x")
    pattern = redactor._pattern
    assert redactor._pattern is pattern
    redactor.add(["correct horse"])
    assert redactor._pattern is pattern, "it knew it"
    redactor.add(["battery staple"])
    assert redactor.text("correct horse battery staple") == f"{MASK} {MASK}"


class Line(Resource):
    """Has a content of which each call manages a part."""

    name = "test.line"
    partial = True


def view(**options: bool) -> View:
    return View(Line(Args({}), Host(None)), Redactor(["hunter2secret"], lambda: b"key"), **options)  # type: ignore[arg-type]


def test_what_was_masked_is_hidden_before_a_change() -> None:
    shown = view()
    assert shown.former({"a": "yesterday", "b": "x"}).data == {"a": "yesterday", "b": "x"}
    for recorded, hidden in (
        (None, False),
        ({"a": "fine"}, False),
        ({"a": f"is {MASK}"}, True),
        ({"a": {"k": [MASK]}}, True),
        ({"a": {MASK: 1}}, True),
        ({"a": [1, {"k": "v"}]}, False),
    ):
        shown = view()
        shown.hide(recorded)
        assert shown.former({"a": "yesterday", "b": "x"}).data == {"a": MASK if hidden else "yesterday", "b": "x"}
        diff = shown.diff({"a": {"before": "yesterday", "after": "today"}}).data
        assert diff == {"a": {"before": MASK if hidden else "yesterday", "after": "today"}}


def test_of_a_sensitive_text_only_what_the_site_adds_is_shown() -> None:
    text = "--- a\n+++ b\n@@ -1 +1 @@\n-old\n same\n+hunter2secret\n+new\n\\ No newline\n"
    assert view().diff({"content": {"unified": text}}).data == {
        "content": {"unified": text.replace("hunter2secret", MASK)}
    }
    sensitive = view(sensitive=True).diff({"content": {"unified": text}}).data["content"]["unified"]  # type: ignore[index]
    expected = f"--- a\n+++ b\n@@ -1 +1 @@\n-{MASK}\n {MASK}\n+{MASK}\n+{MASK}\n\\ No newline\n"
    assert sensitive == expected, "it manages a part, so what it adds may have been there before"


def test_nothing_of_a_masked_call_is_shown() -> None:
    shown = view(masked=True)
    assert list(shown.value("a", "text")) == ["secret"]  # type: ignore[arg-type]
    assert shown.value("a", None) is None
    assert list(shown.diff({"a": {"before": "x", "unified": "y"}}).data["a"]) == ["before"]  # type: ignore[index]
    assert Redactor([]).key("a" * 40) == "a" * 40


def test_a_secret_of_short_lines_is_hidden_in_texts_and_in_diffs() -> None:
    """Recovery codes, say: each line alone is as short as a word, and together they are all of it."""
    codes = [f"{number * 7919 % 999983:06d}" for number in range(1, 12)]
    for end in ("\n", "\r\n"):
        redactor = Redactor([end.join(codes) + end])
        for mark in ("+", "-", " ", ""):
            text = redactor.text("".join(mark + code + end for code in codes))
            assert [code for code in codes if code in text] == [], (mark, text)
            for at in range(len(codes) - 1):  # two of them, as a diff with little around it shows them
                text = redactor.text(f"@@ -1 +1 @@{end}{mark}{codes[at]}{end}{mark}{codes[at + 1]}{end}")
                assert codes[at] not in text, (mark, text)
                assert codes[at + 1] not in text, (mark, text)
    assert Redactor([end.join(codes)]).text(f"build {codes[0]} is done") == f"build {codes[0]} is done"


def test_what_may_be_any_word_is_not_hidden() -> None:
    redactor = Redactor(["ab\ncd\nand a longer line of it"])
    assert redactor.text("ab\ncd\n") == "ab\ncd\n"
    assert redactor.text("and a longer line of it") == MASK
    whole = base64.b64encode(bytes(range(60))).decode()
    redactor = Redactor([bytes(range(60)).decode()])
    assert redactor.text(whole[76:]) == whole[76:], "the last four characters of it, in a line of their own"
    assert redactor.text(whole[64:]) == MASK


def test_a_short_line_that_json_makes_long_is_hidden() -> None:
    redactor = Redactor(["a longer line of it\ns\u00e4k6c\nand one more of them"])
    assert "s\u00e4k6c" not in redactor.text("+s\u00e4k6c\n")
    assert "k6c" not in redactor.text('{"line": "s\\u00e4k6c"}')
