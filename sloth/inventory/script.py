"""Inventory scripts, and the plugins of Ansible through the user's own ansible-inventory: programs that print JSON."""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import shutil
import signal
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from sloth.errors import InventoryError
from sloth.inventory.content import Content
from sloth.inventory.yaml_inventory import add_variables, read_listing

if TYPE_CHECKING:
    from sloth.payload.kernel.values import JsonObject

SECONDS = 120.0  # that a program may take; $SLOTH_INVENTORY_TIMEOUT
LARGEST = 256 * 1024 * 1024  # bytes of output


def is_program(path: Path) -> bool:
    """Return whether a file is to be run: it is executable, and begins as a script or a binary does.

    A file system without permissions shows every file as executable, so that alone says little.
    """
    if not os.access(path, os.X_OK) or not path.is_file():
        return False
    try:
        with path.open("rb") as file:
            begin = file.read(4)
    except OSError:
        return False
    return begin.startswith(b"#!") or begin == b"\x7fELF"


def read_script(path: Path, content: Content) -> None:
    """Run an inventory script, and add what it prints. Raises InventoryError."""
    program = os.path.abspath(path)
    waiting = read_listing(_json([program, "--list"], content), content)
    for host in waiting or ():
        text = _run([program, "--host", host], content)
        add_variables(host, _parse(text, f"{path} --host {host}", content) if text.strip() else {}, content)


def read_plugin(path: Path, plugin: str, earlier: Sequence[Path], content: Content) -> None:
    """Add what `ansible-inventory` prints for the configuration file of a plugin. Raises InventoryError."""
    program = shutil.which("ansible-inventory")
    if program is None:
        raise content.error(
            f"the inventory plugin {plugin} needs ansible-inventory, which is not installed", 0,
            "install ansible-core and the plugin's collection on this machine; nothing else of Ansible is used",
        )  # fmt: skip
    sources = [word for one in (*earlier, path) for word in ("-i", os.path.abspath(one))]
    data = _json([program, *sources, "--list", "--export"], content)
    if not [name for name in data if name not in ("_meta", "all", "ungrouped")] and not data.get("all", {}).get(
        "children"
    ):
        raise content.error(f"ansible-inventory found no hosts with the plugin {plugin}", 0, "run it to see why")
    read_listing(data, content)


def _json(command: Sequence[str], content: Content) -> JsonObject:
    text = _run(command, content)
    name = " ".join([content.name, *command[1:]]) if command[0] == os.path.abspath(content.name) else content.name
    if not text.strip():
        raise InventoryError("the program printed nothing", where=name, hint="it must print a JSON object: {} for none")
    return _parse(text, name, content)


def _parse(text: str, name: str, content: Content) -> JsonObject:
    try:
        data = json.loads(text)
    except RecursionError:
        raise InventoryError("the output is nested too deeply", where=name) from None
    except ValueError as error:
        first = next((line for line in text.splitlines() if line.strip()), "")
        hint = "it must print JSON alone on stdout, and warnings on stderr"
        shown = first if len(first) < 80 else first[:77] + "..."
        reason = f"the output begins with {shown!r}" if not first.lstrip().startswith(("{", "[")) else str(error)
        raise InventoryError(f"the program did not print JSON: {reason}", where=name, hint=hint) from None
    if not isinstance(data, dict):
        raise InventoryError("the program must print a JSON object", where=name)
    return data


def _run(command: Sequence[str], content: Content) -> str:
    """Return what a program prints on stdout. Raises InventoryError when it fails, or takes too long."""
    seconds = _limit()
    name = content.name
    try:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True
        )
    except OSError as error:
        raise InventoryError(f"cannot run {command[0]}: {error.strerror}", where=name) from None
    try:
        out, errors, is_late = _collect(process, seconds)
    finally:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        for pipe in (process.stdout, process.stderr):
            if pipe is not None:
                pipe.close()
    said = errors.decode("utf-8", "replace").strip().splitlines()
    more = f": {said[-1]}" if said else ""
    if is_late:
        hint = "set $SLOTH_INVENTORY_TIMEOUT if it needs more"
        raise InventoryError(f"the program did not end within {seconds:g} seconds{more}", where=name, hint=hint)
    if len(out) > LARGEST:
        raise InventoryError(f"the program printed more than {LARGEST // 1024 // 1024} MB", where=name)
    if process.returncode != 0:
        raise InventoryError(f"the program failed with status {process.returncode}{more}", where=name)
    try:
        return out.decode("utf-8")
    except UnicodeDecodeError as error:
        raise InventoryError(f"the output of the program is not UTF-8 (byte {error.start})", where=name) from None


def _collect(process: subprocess.Popen[bytes], seconds: float) -> tuple[bytes, bytes, bool]:
    """Return what a process prints on stdout and at the end of stderr, and whether it took too long."""
    deadline = time.monotonic() + seconds
    parts: dict[str, bytearray] = {"out": bytearray(), "errors": bytearray()}
    with selectors.DefaultSelector() as selector:
        for pipe, name in ((process.stdout, "out"), (process.stderr, "errors")):
            assert pipe is not None
            selector.register(pipe, selectors.EVENT_READ, name)
        # A background process of the script may keep the pipes open: what counts is that the script has ended.
        while selector.get_map() and len(parts["out"]) <= LARGEST:
            ready = selector.select(min(0.2, max(0.0, deadline - time.monotonic())))
            for key, _ in ready:
                data = os.read(key.fd, 65536)
                parts[key.data] += data
                if key.data == "errors":
                    del parts["errors"][:-65536]
                if not data:
                    selector.unregister(key.fileobj)
            if not ready and process.poll() is not None:
                break
            if time.monotonic() > deadline:
                return bytes(parts["out"]), bytes(parts["errors"]), True
    try:
        if len(parts["out"]) <= LARGEST:
            process.wait(max(0.0, deadline - time.monotonic()))
    except subprocess.TimeoutExpired:
        return bytes(parts["out"]), bytes(parts["errors"]), True
    return bytes(parts["out"]), bytes(parts["errors"]), False


def _limit() -> float:
    value = os.environ.get("SLOTH_INVENTORY_TIMEOUT", "")
    try:
        seconds = float(value) if value else SECONDS
    except ValueError:
        seconds = 0
    if not seconds > 0:
        raise InventoryError(f"$SLOTH_INVENTORY_TIMEOUT must be a number of seconds, not {value!r}")
    return seconds
