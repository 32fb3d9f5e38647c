"""The values of -e and --values in the record of a run: short, and without what may be a secret."""

from __future__ import annotations

import json

import pytest

from sloth.engine.used_values import MOST, used_values
from sloth.payload.kernel.redact import MASK


@pytest.mark.parametrize(
    "name",
    [
        "password", "DB_PASSWORD", "dbPassword", "dbpassword", "admin-pass", "pw", "wifi_psk", "api_key", "apiKey",
        "APIKEY", "token", "GITHUB_TOKEN", "client_secret", "x_auth", "cookie", "dsn", "aws_credentials", "ssh_keys",
    ],
)  # fmt: skip
def test_a_value_whose_name_is_that_of_a_secret_is_hidden(name: str) -> None:
    assert used_values({name: "hunter2"}) == {name: MASK}
    assert used_values({"app": {"list": [{name: ["hunter2"]}]}}) == {"app": {"list": [{name: MASK}]}}


@pytest.mark.parametrize(
    "name", ["release", "keyboard", "passenger", "compass", "monkey", "path", "author", "pinned", "version", "region"]
)
def test_other_values_are_kept(name: str) -> None:
    assert used_values({name: "v1"}) == {name: "v1"}


def test_a_secret_is_known_by_its_form_too() -> None:
    given = {
        "url": "postgres://app:p@ss@db/x", "proxy": ["http://u:p@proxy:3128/"], "plain": "https://db/x?a=1@2",
        "pem": "-----BEGIN OPENSSH PRIVATE KEY-----\nabc", "vaulted": "$ANSIBLE_VAULT;1.1;AES256\n6162",
    }  # fmt: skip
    assert used_values(given) == {
        "url": f"postgres://{MASK}@db/x", "proxy": [f"http://{MASK}@proxy:3128/"], "plain": "https://db/x?a=1@2",
        "pem": MASK, "vaulted": MASK,
    }  # fmt: skip


def test_whatever_is_given_the_record_is_small() -> None:
    deep: object = "x"
    for _ in range(500):
        deep = [deep]
    found = used_values({"long": "x" * 10**6, "list": list(range(10**5)), "deep": deep, "none": None, "yes": True})
    assert str(found["long"]).endswith("… (1000000 characters)")
    assert (found["none"], found["yes"]) == (None, True)
    assert len(json.dumps(found)) < 4000
    many = used_values({f"v{number:05}": "y" * 900 for number in range(1000)})
    assert len(many) == 1000
    assert sum(len(str(value)) for value in many.values()) < MOST + 1000 * 30
