"""The guest: takes calls from the wire in order, lets the kernel run them, answers once it is recorded."""

import os
import signal
import sys
import time

from sloth.payload.kernel.converge import timed
from sloth.payload.kernel.paging import pages
from sloth.payload.kernel.record import Asset, Context
from sloth.payload.kernel.registry import find
from sloth.payload.kernel.resource import Action, Args, ArgumentError, Failed, Resource
from sloth.payload.lib import files
from sloth.payload.lib.host import Host, state_directory
from sloth.payload.session import wire
from sloth.payload.session.channel import Gone, Link
from sloth.payload.session.run_lock import Locked, RunLock
from sloth.payload.state.database import set_aside
from sloth.payload.state.store import Store, StoreError

HOLD = 0.05  # seconds that an answer may wait for others to share its commit
ORPHANS = 500  # orphans that are told of at once


class Guest(object):
    """One session: one account of one host, one state file."""

    def __init__(self, link, hello):
        self.link = link
        self.hello = hello
        self.check = bool(hello.get("check"))
        self.touched = set()  # keys of the resources that this run named
        self.failed_epoch = -1
        self.held = []
        self.held_since = 0.0
        self.lock = None
        self.damaged = False  # the state file turned out to be no sound database
        self.host = Host(link)
        path = os.path.join(state_directory(self.host.home), "%s.db" % hello["agent"])
        self.store = Store(path, readonly=self.check or bool(hello.get("readonly")))
        self.store.before_commit = files.settle
        self.host.signatures = self.store.signatures
        self.host.upcoming = lambda: [(m["name"], m["args"]) for m in link.waiting() if m["t"] == "call"]

    def open(self):
        """Take the run lock (a check takes none) and say that we are ready. Raises Locked, StoreError."""
        if not self.store.readonly:
            self.lock = RunLock(os.path.dirname(state_directory(self.host.home)))
            holder = dict((name, self.hello.get(name)) for name in ("run", "who", "origin"))
            self.lock.acquire(
                holder,
                float(self.hello.get("lock_wait") or 0),
                lambda text: self.link.send({"t": "waiting", "holder": text}),
                self.link.cancelled,
            )
            if self.hello.get("site"):
                self.store.runs.begin(*[self.hello.get(name) for name in ("run", "site", "who", "origin")])
        self.link.send(
            {
                "t": "ready",
                "aside": self.store.aside,
                "handlers": self.pending_handlers(),
                "v": wire.VERSION,
                "python": "%d.%d.%d" % sys.version_info[:3],
                "user": self.host.user,
                "home": self.host.home,
                "pid": os.getpid(),
            }
        )

    def pending_handlers(self):
        site = self.hello.get("site")
        return [handler.shown() for handler in self.store.handlers.pending(site)] if site else []

    def serve(self):
        """Answer messages until `close` or the end of the link."""
        while True:
            message = self.link.next(wait=not self.held)
            if message is None or (self.held and time.monotonic() - self.held_since > HOLD):
                self.flush()
                if message is None:
                    continue
            kind = message["t"]
            if kind == "call":
                self.call(message)
            elif kind == "secrets":
                self.store.redactor.add(str(value) for value in message.get("values") or ())
            elif kind == "store":
                self.state(message)
            elif kind == "close":
                return self.bye(message)
            else:
                raise wire.WireError("unknown message %r" % kind)

    def flush(self):
        """Commit, then send the answers that waited for it."""
        self.store.commit()
        if self.held:
            frames, self.held = b"".join(self.held), []
            self.link.write(frames)

    def hold(self, message):
        if not self.held:
            self.held_since = time.monotonic()
        self.held.append(wire.pack(message))

    # Calls

    def call(self, message):
        epoch = message["epoch"]
        if epoch <= self.failed_epoch or self.link.cancelled(epoch):
            self.link.finish(message["id"])
            self.hold({"t": "reply", "id": message["id"], "status": "skipped"})
            return
        self.link.begin(message["id"], epoch)
        answer = {"t": "reply", "id": message["id"]}
        try:
            self.run(message, answer)
        except Gone:
            raise
        except StoreError:
            raise
        except Exception as error:
            self.failed_epoch = max(self.failed_epoch, epoch)
            answer["status"] = "failed"
            answer.update(self.store.redactor.plain(_explain(error, self.host)))
        if self.host.warnings:
            answer["warnings"], self.host.warnings = self.store.redactor.plain(self.host.warnings), []
        self.link.finish(message["id"])
        self.hold(answer)

    def run(self, message, answer):
        cls = find(message["name"])
        call = cls(
            Args(cls.check(message["args"])), self.host, [Asset.read(asset) for asset in message.get("assets") or ()]
        )
        answer["key"] = self.store.redactor.key(call.key())
        if isinstance(call, Resource):
            self.touched.add(answer["key"])
        if isinstance(call, Action):
            self.flush()  # it may take long, or take the host down
        context = self.context().replace(
            task=message.get("task") or "",
            where=message.get("where") or "",
            notify=message.get("notify") or [],
            sensitive=bool(message.get("sealed")),
        )
        outcome, seconds = timed(call, self.store, self.check, context)
        if outcome.unknown:
            outcome.values = dict(outcome.values, _unknown=True)
        answer["status"] = outcome.status
        answer["seconds"] = round(seconds, 4)
        for name in ("reason", "msg", "diff", "values", "before", "after"):
            value = getattr(outcome, name)
            if value:
                answer[name] = value

    # State

    def context(self):
        """What the records say of this run."""
        hello = self.hello
        given = dict((name, hello.get(name) or "") for name in ("run", "site", "who", "origin"))
        return Context(adopt=bool(hello.get("adopt")), **given)

    def state(self, message):
        """Answer a state command; `op` is the name of one of the Operations."""
        from sloth.payload.session.queries import OPEN, query  # most sessions ask nothing of the state

        op = message.get("op")
        if op not in OPEN:
            self.flush()
        try:
            args = message.get("args") or {}
            if op == "orphans":  # only this session knows what its run has named
                rows = self.orphans(args)
            else:
                rows = query(self.store, str(op), args, self.host, self.context())
            if op not in OPEN:
                self.store.commit()
        except StoreError as error:
            answer = {"t": "rows", "id": message["id"], "rows": [], "more": False}
            self.link.send(dict(answer, error=error.message, hint=error.hint))
            return
        for page in pages(rows):
            self.link.send({"t": "rows", "id": message["id"], "rows": page, "more": True})
        self.link.send({"t": "rows", "id": message["id"], "rows": [], "more": False})

    def bye(self, message):
        self.flush()
        answer = {"t": "bye", "replica": None, "orphans": self.orphans(message.get("whole"))}
        if self.lock is not None and self.hello.get("site"):
            self.store.runs.end(self.hello.get("run"))
            self.store.commit()
        if message.get("replica", True) and not self.store.readonly:
            changes = self.store.changes_since(self.hello.get("replica"))
            for page in pages(changes.pop("rows")):
                self.link.send({"t": "replica", "rows": page})
            answer["replica"] = dict(changes, rows=[])
        self.link.send(answer)

    def orphans(self, whole):
        """What the site no longer names, once all of it was evaluated: key, task, and what pruning would do."""
        if not whole:
            return []
        spared = whole.get("spared") or ()
        records = self.store.records.orphans(self.hello.get("site"), self.touched, spared, not self.check)
        if not records:
            return []
        from sloth.payload.kernel.rollback import Rollback

        planned = Rollback(self.store, self.host, self.context(), check=True).plan(records[:ORPHANS])
        return [{"key": one.key, "task": one.task, "status": one.status, "msg": one.msg} for one in planned]

    def close(self):
        """Whatever happened: keep what was recorded, release the host."""
        try:
            self.store.close()
        except StoreError as error:
            self.damaged = self.damaged or error.damaged
        finally:
            if self.damaged and not self.store.readonly and self.store.path:
                set_aside(self.store.path)
            if self.lock is not None:
                self.lock.release()


def _explain(error, host):
    """Return the wire's fields for an exception: error, hint, detail."""
    if isinstance(error, Failed):
        kind = "arguments" if isinstance(error, ArgumentError) else ""
        return {"error": error.message, "hint": error.hint, "detail": error.detail, "kind": kind}
    if isinstance(error, OSError) and error.errno is not None:
        subject = " '%s'" % error.filename if error.filename else ""
        hint = ""
        if error.errno in (1, 13) and host.uid != 0:
            hint = "set become = true on the task or the host"
        elif error.errno == 28:
            hint = "free some space on the host"
        return {"error": "%s (errno %d)%s" % (os.strerror(error.errno), error.errno, subject), "hint": hint}
    import traceback

    text = traceback.format_exc()
    place = ""
    for frame in traceback.extract_tb(error.__traceback__):
        _, found, inside = frame[0].rpartition("/payload/modules/")
        if found:
            place = "modules/%s:%d: " % (inside, frame[1])
    return {
        "error": "%s%s: %s" % (place, type(error).__name__, error),
        "hint": "this is a defect of sloth-runner or of a custom module",
        "detail": text[-8000:],
    }


def _reserve():
    """Take fd 0 and fd 1 for the wire; what modules and children print goes to stderr, what they read is empty."""
    reader, writer = os.dup(0), os.dup(1)
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.dup2(2, 1)
    os.close(null)
    return reader, writer


def main():
    """Serve one session on fd 0 and fd 1; return the exit status."""
    reader, writer = _reserve()
    os.umask(0o022)
    known = os.environ.get("PATH", "").split(os.pathsep)
    # A session without a login may lack the directories in which useradd and the like are.
    more = [path for path in ("/usr/local/sbin", "/usr/sbin", "/sbin", "/usr/bin", "/bin") if path not in known]
    os.environ["PATH"] = os.pathsep.join([path for path in known if path] + more)
    link = Link(reader, writer)
    for number in (signal.SIGHUP, signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda number, frame: link.end("ended by signal %d" % number))
    link.start()
    guest = None
    try:
        hello = link.next()
        if hello["t"] != "hello" or hello.get("v") != wire.VERSION:
            raise wire.WireError("the controller speaks version %r, this payload %d" % (hello.get("v"), wire.VERSION))
        guest = Guest(link, hello)
        guest.open()
        guest.serve()
        return 0
    except Gone:
        return 1
    except Exception as error:
        if guest is not None:  # before the controller is told, since it ends us then
            guest.damaged = getattr(error, "damaged", False)
            guest.close()
            guest = None
        return _fail(link, error)
    finally:
        if guest is not None:
            guest.close()


def _fail(link, error):
    """Tell the controller why the session cannot go on."""
    message = {"t": "fail", "kind": "crash", "error": str(error), "hint": getattr(error, "hint", "")}
    if isinstance(error, Locked):
        message["kind"] = "locked"
        message["hint"] = "wait for it to end, or give --lock-wait SECONDS"
    elif isinstance(error, StoreError):
        message["kind"] = "state"
    elif isinstance(error, wire.WireError):
        message["kind"] = "protocol"
    else:
        import traceback

        message["error"] = "%s: %s" % (type(error).__name__, error)
        message["detail"] = traceback.format_exc()[-8000:]
    try:
        link.send(message)
    except Gone:
        pass
    return 1


if __name__ == "__main__":
    os._exit(main())
