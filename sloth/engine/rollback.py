"""What became of taking something back, as a result like any other's."""

from __future__ import annotations

from sloth.engine.events import CHANGED, FAILED, SKIPPED, Result
from sloth.payload.kernel.findings import Restored, RestoreStatus
from sloth.payload.kernel.status import Reason

STATUS = {
    RestoreStatus.DONE: CHANGED,
    RestoreStatus.PLANNED: CHANGED,
    RestoreStatus.REFUSED: SKIPPED,
    RestoreStatus.FAILED: FAILED,
}


def rollback_result(restored: Restored, reason: Reason) -> Result:
    """Return the Result of one change that was taken back; reason: ROLLBACK or PRUNED."""
    key = restored.key
    module, _, rest = key.partition(":")
    kind, _, subject = rest.partition(":")
    status = STATUS[restored.status]
    return Result(
        key=key,
        module=f"{module}.{kind}",
        status=status,
        reason=reason if status is CHANGED else Reason.NONE,
        msg=restored.msg,
        subject=subject,
        diff=restored.diff or None,
        error=f"{key}: {restored.msg}" if status is FAILED else "",
    )
