"""What run records keep of diffs and times: bounded, whatever hosts send."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from sloth.engine.events import (
    CHANGED,
    UNCHANGED,
    CallFinished,
    HostFinished,
    HostStarted,
    Result,
    SessionOpened,
    TaskFinished,
)
from sloth.engine.kept_diffs import CHANGE_LIMIT, RUN_LIMIT, KeptDiffs
from sloth.engine.timings import LIMIT, MOST, Timings

TEXTS = st.text(max_size=40)
ENTRIES = st.fixed_dictionaries(
    {"before": st.none() | TEXTS, "after": st.none() | TEXTS},
    optional={"unified": st.builds(lambda text, times: text * times, TEXTS, st.integers(0, 20_000))},
)


@given(st.dictionaries(TEXTS, ENTRIES, max_size=8))
def test_a_kept_diff_is_json_within_its_limit(diff: dict[str, object]) -> None:
    text = KeptDiffs().keep(diff)
    if not diff:
        assert text is None
        return
    assert text is not None
    assert len(text) <= CHANGE_LIMIT + 2048
    kept = json.loads(text)
    assert set(kept) <= {*diff, "…"}
    if len(json.dumps(diff, separators=(",", ":"))) <= CHANGE_LIMIT:
        assert kept == json.loads(json.dumps(diff))
    else:
        assert any("cut" in entry for entry in kept.values())


def test_a_diff_that_is_too_large_by_the_names_of_its_attributes_is_cut() -> None:
    size = CHANGE_LIMIT // 8 - len('"":{"unified":"\\n"},')
    diff = {"\u00fb" * number: {"unified": "x" * size + "\n"} for number in range(8)}
    assert sum("cut" in entry for entry in json.loads(KeptDiffs().keep(diff) or "").values()) == 1


def test_a_text_is_cut_after_a_line_and_what_is_small_is_kept_whole() -> None:
    unified = "@@ -1 +1 @@\n" + "".join(f"+line {number}\n" for number in range(100_000))
    kept = json.loads(KeptDiffs().keep({"content": {"unified": unified}, "mode": {"before": "1", "after": "2"}}) or "")
    assert kept["mode"] == {"before": "1", "after": "2"}
    assert kept["content"]["unified"].endswith("\n")
    assert unified.startswith(kept["content"]["unified"])
    assert len(kept["content"]["unified"]) > CHANGE_LIMIT // 2
    assert kept["content"]["cut"] > 900_000


def test_all_diffs_of_a_run_are_within_a_limit() -> None:
    diffs = KeptDiffs()
    diff = {"content": {"unified": "+x\n" * 20_000}}
    kept = [diffs.keep(diff) or "" for _ in range(1000)]
    assert sum(map(len, kept)) < RUN_LIMIT + 1000 * 64
    assert json.loads(kept[-1]) == {"…": {"cut": len(json.dumps(diff["content"], separators=(",", ":")))}}


def test_spans_are_of_sessions_tasks_and_calls_that_count() -> None:
    timings = Timings()
    timings.add(HostStarted(100.0, "web1"))
    timings.add(SessionOpened(101.0, "web1", "", 0.3, 0.2, 0.5))
    timings.add(CallFinished(101.2, "web1", "t", Result("quick", "file.copy", UNCHANGED, seconds=0.01)))
    timings.add(CallFinished(103.2, "web1", "t", Result("slow", "pkg.install", UNCHANGED, seconds=2.0)))
    timings.add(CallFinished(103.3, "web1", "t", Result("changed", "file.copy", CHANGED, seconds=0.1)))
    timings.add(TaskFinished(103.3, "web1", "t", CHANGED, 2.3))
    timings.add(HostFinished(103.4, "web1", CHANGED, 3.4))
    (host,) = timings.hosts
    assert (host.host, host.status, host.started, host.seconds) == ("web1", "changed", 100.0, 3.4)
    assert json.loads(host.spans or "") == [
        ["connect", "", 0.0, 0.3, ""],
        ["authenticate", "", 0.3, 0.2, ""],
        ["start", "", 0.5, 0.5, ""],
        ["call", "slow", 1.2, 2.0, "unchanged"],
        ["call", "changed", 3.2, 0.1, "changed"],
        ["task", "t", 1.0, 2.3, "changed"],
    ]


def test_spans_are_bounded() -> None:
    timings = Timings()
    for number in range(600):
        name = f"web{number}"
        timings.add(HostStarted(1.0, name))
        for _ in range(300):
            timings.add(CallFinished(2.0, name, "t", Result("k" * 1000, "file.copy", CHANGED, seconds=1.0)))
        timings.add(HostFinished(3.0, name, CHANGED, 2.0))
    assert len(json.loads(timings.hosts[0].spans or "")) == MOST
    assert sum(len(host.spans or "") for host in timings.hosts) <= LIMIT
    assert timings.hosts[-1].spans is None
    assert len(timings.hosts) == 600


def test_of_what_is_no_text_only_its_size_is_kept() -> None:
    large = "x" * 2 * CHANGE_LIMIT
    assert json.loads(KeptDiffs().keep({"a": large}) or "") == {"a": {"cut": len(large)}}
    kept = json.loads(KeptDiffs().keep({"a": {"before": large, "after": "y", "unified": None}}) or "")
    assert kept["a"]["after"] == "y"
    assert kept["a"]["cut"] > 2 * CHANGE_LIMIT
    assert set(kept["a"]) == {"after", "cut"}
