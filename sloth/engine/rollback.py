"""What became of taking something back, as a result like any other's."""

from __future__ import annotations

from typing import Any

from sloth.engine.events import CHANGED, FAILED, SKIPPED, Result

STATUS = {"done": CHANGED, "planned": CHANGED, "refused": SKIPPED, "failed": FAILED}


def undone(row: dict[str, Any], reason: str) -> Result:
    """The Result of one row of the payload's rollback or prune; reason: "rollback" or "pruned"."""
    key = str(row.get("key"))
    module, _, rest = key.partition(":")
    kind, _, subject = rest.partition(":")
    status = STATUS.get(str(row.get("status")), FAILED)
    msg = str(row.get("msg") or "")
    return Result(
        key=key,
        module=f"{module}.{kind}",
        status=status,
        reason=reason if status == CHANGED else "",
        msg=msg,
        subject=subject,
        diff=row.get("diff") or None,
        error=f"{key}: {msg}" if status == FAILED else "",
    )
