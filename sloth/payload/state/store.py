"""The host's memory: one SQLite file per agent that knows what we applied, when, and why it changed.

Only SQL of SQLite 3.7 is used (old hosts). Times are epoch integers (seconds). The controller reads the same file
format for the agent `local`, and keeps its replicas in it.
"""

from sloth.payload.kernel.errors import StoreError
from sloth.payload.kernel.record import Record, ReplicaChange
from sloth.payload.kernel.redact import Redactor
from sloth.payload.state.blobs import Blobs
from sloth.payload.state.claims import Claims
from sloth.payload.state.database import Database
from sloth.payload.state.freezes import AppliedPlans, Freezes
from sloth.payload.state.history import History
from sloth.payload.state.migrations import VERSION
from sloth.payload.state.records import Records
from sloth.payload.state.runs import Handlers, Runs
from sloth.payload.state.signatures import Signatures

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sloth.payload.kernel.record import ReplicaPosition
    from sloth.payload.kernel.revert import Guard
    from sloth.payload.kernel.step import Merge
    from sloth.payload.kernel.values import JsonObject

__all__ = ("Signatures", "Store", "StoreError")


class Store(Database):
    """One agent's state, table by table. Nothing is durable before commit()."""

    def __init__(self, path: "str | None", readonly: "bool" = False) -> "None":
        self.guard: "Guard | None" = None  # the kernel's: stands before each change that must be confirmed
        self.merged: "dict[str, Merge]" = {}  # the kernel's: what calls of this run ask of one resource together
        Database.__init__(self, path, readonly)
        self.redactor = Redactor(key=lambda: bytes.fromhex(self.meta("secret_key") or ""))
        self.claims = Claims(self)
        self.records = Records(self, self.claims)
        self.runs = Runs(self)
        self.history = History(self, self.runs)
        self.handlers = Handlers(self)
        self.blobs = Blobs(self)
        self.freezes = Freezes(self, self.redactor)
        self.plans = AppliedPlans(self)
        self.signatures = Signatures(self, self.redactor)

    def stats(self) -> "JsonObject":
        """Return counts (resources, by module and type, history, runs), times and the file's size in bytes."""
        types = self.execute("SELECT module || ':' || type, count(*) FROM resources GROUP BY 1 ORDER BY 1")
        first, last, checked = self.execute(
            "SELECT min(created_at), max(changed_at), max(checked_at) FROM resources"
        ).fetchone()
        kept = self.execute("SELECT count(*), coalesce(sum(stored), 0) FROM blobs").fetchone()
        return {
            "path": self.path or "",
            "size": self.size(),
            "version": VERSION,
            "resources": self.count("resources"),
            "types": dict(types.fetchall()),
            "orphaned": self.execute("SELECT count(*) FROM resources WHERE orphaned IS NOT NULL").fetchone()[0],
            "handlers": self.count("handlers"),
            "history": self.count("history"),
            "runs": self.count("runs"),
            "contents": kept[0],
            "contents_size": kept[1],
            "first_created_at": first,
            "last_changed_at": last,
            "last_checked_at": checked,
        }

    def forget_session(self) -> "None":
        """Forget what the calls of this session have asked for together: they were only looked at."""
        self.merged.clear()
        self.claims.session.clear()

    # Replica

    def changes_since(self, replica: "ReplicaPosition | None") -> "ReplicaChange":
        """Return what a replica (None: a new one) lacks."""
        own, seq = self.meta("id") or "", int(self.meta("seq") or 0)
        since = replica.seq if replica is not None else 0
        whole = replica is None or replica.id != own or since > seq
        if whole:
            since = 0
        columns = ",".join(Record.COLUMNS)
        rows = self.execute("SELECT %s FROM resources WHERE seq>? ORDER BY seq" % columns, (since,))
        removed = [] if whole else self.execute("SELECT key FROM tombstones WHERE seq>?", (since,)).fetchall()
        return ReplicaChange(
            id=own,
            seq=seq,
            removed=[row[0] for row in removed],
            whole=whole,
            rows=[dict(zip(Record.COLUMNS, row)) for row in rows],
        )
