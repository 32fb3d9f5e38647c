"""exec.run: what is said of commands that fail, or cannot be run at all."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from sloth.payload.kernel.resource import ArgumentError, Failed
from tests.support.calls import execute_call


@pytest.mark.parametrize("stream", ["", ">&2"])
def test_a_failure_is_explained_by_the_end_of_what_was_printed(stream: str) -> None:
    """Only the first megabyte is a result; the cause is in the last lines."""
    with pytest.raises(Failed) as error:
        execute_call("exec.run", cmd=f"{{ yes noise | head -c 3000000; echo; echo the cause; }} {stream}; exit 1")
    assert error.value.detail.endswith("\nthe cause")
    assert len(error.value.detail.splitlines()) == 20


def test_what_is_no_program_is_said_to_be_none(tmp_path: Path) -> None:
    for name, text, said in (
        (
            "missing",
            "#!/no/such/interpreter\n",
            "the interpreter that the first line of .*missing names does not exist",
        ),
        ("dos", "#!/bin/sh\r\n", "the interpreter that the first line of .*dos names"),
        ("plain", "echo x\n", "plain is not a program"),
    ):
        (tmp_path / name).write_bytes(text.encode())
        (tmp_path / name).chmod(0o755)
        for cmd, cwd in (([str(tmp_path / name)], None), ([f"./{name}"], str(tmp_path))):
            with pytest.raises(Failed, match=said):
                execute_call("exec.run", cmd=cmd, cwd=cwd)
    with pytest.raises(Failed, match="plain is not a directory"):
        execute_call("exec.run", cmd="true", cwd=f"{tmp_path}/plain")


@pytest.mark.parametrize(
    "arguments",
    [{"env": {"A=B": "1"}}, {"env": {"": "1"}}, {"env": {"A": "x\0"}}, {"cmd": ["echo", "a\0b"]}, {"unless": "a\0b"}],
)
def test_what_no_process_can_be_given_is_an_error_of_the_site(arguments: dict[str, Any]) -> None:
    with pytest.raises(ArgumentError, match="cannot"):
        execute_call("exec.run", **{"cmd": "true", **arguments})
