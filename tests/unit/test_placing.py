"""Which worker of an engine gets which hosts."""

from __future__ import annotations

import pytest

from sloth.engine.workers.placing import Found, deal, refuse_far
from sloth.errors import UsageError


def worker(number: int, *names: str) -> Found:
    return Found(f"tcp://127.0.0.1:{number}", frozenset((f"w{number}", *names)), {})


def dealt(hosts: str, workers: list[Found], count: int, near: dict[str, tuple[str, ...]]) -> dict[str, str]:
    """Return the hosts of each worker, which are letters; the shares of a worker are separated by a comma."""
    found: dict[str, str] = {}
    for share in deal(list(hosts), workers, count, near):
        before = f"{found[share.worker.address]}," if share.worker.address in found else ""
        found[share.worker.address] = before + "".join(share.hosts)
    return {address.rpartition(":")[2]: names for address, names in found.items()}


def test_without_a_choice_hosts_are_dealt_out_like_cards() -> None:
    two = [worker(1), worker(2)]
    assert dealt("abcde", two, 2, {}) == {"1": "ace", "2": "bd"}
    assert dealt("abcde", two, 1, {}) == {"1": "abcde"}
    assert dealt("abcdef", two, 3, {}) == {"1": "ad,cf", "2": "be"}


def test_hosts_get_the_workers_that_are_near_them() -> None:
    workers = [worker(1, "eu"), worker(2, "us"), worker(3, "us")]
    near = {"a": ("eu",), "b": ("us",), "c": ("us",), "d": ("eu",), "e": ("asia",)}
    found = dealt("abcdef", workers, 3, near)
    assert found["1"].startswith("ad")
    assert "b" in found["2"]
    assert "c" in found["3"]
    assert sorted("".join(found.values())) == list("abcdef"), "who has no near worker gets any"
    assert max(map(len, found.values())) == 2, "and fills up what has fewer"


def test_a_near_worker_is_used_even_when_there_are_fewer_shares() -> None:
    workers = [worker(1), worker(2, "eu")]
    assert dealt("ab", workers, 1, {"b": ("eu",)}) == {"1": "a", "2": "b"}
    assert dealt("b", workers, 1, {"b": ("eu",)}) == {"2": "b"}, "a share without hosts is none"


def test_names_of_workers_that_one_command_has_started() -> None:
    for name, is_near in (("eu", True), ("eu-0", True), ("eu-12", True), ("eu-west", False), ("europe", False)):
        assert Found("a", frozenset((name,)), {}).is_near(("eu",)) is is_near, name


def test_hosts_without_a_near_worker_are_named() -> None:
    workers = [worker(1, "eu")]
    refuse_far(["a"], {"a": ("x", "eu")}, workers)
    with pytest.raises(UsageError) as raised:
        refuse_far(["a", "b", "c"], {"a": ("eu",), "b": ("us",)}, workers)
    text = str(raised.value)
    assert "no worker of the engine is near b (us), c" in text
    assert "workers are known as eu, w1" in text
