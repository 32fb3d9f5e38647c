"""What the kernel remembers and answers, as values: the state file keeps them, the wire carries them."""

from sloth.payload.kernel import plain_json
from sloth.payload.kernel.hashing import canonical
from sloth.payload.kernel.status import Reason, Status
from sloth.payload.kernel.value import Value, uses_words

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Sequence

    from sloth.payload.kernel.values import Arguments, Attributes, Column, Diff, Json, JsonObject

uses_words(Reason, Status)


class Asset(Value):
    """A file (or, with `dir`, a directory) that the controller ships with a call."""

    name: "str" = ""  # its path relative to the copied tree, or its base name
    sha256: "str" = ""
    size: "int" = 0
    mode: "str" = ""
    dir: "bool" = False
    pushed: "bool" = False  # its bytes come without being asked for


class RecordedCall(Value):
    """A call as it is recorded, so that it can be made again without the site.

    Arguments that are secrets, or contain one, are keyed hashes: {"secret": hex}.
    """

    name: "str"
    args: "Arguments"
    assets: "list[Asset]" = []
    sensitive: "bool" = False  # there are secrets in it, of which the host must keep nothing
    masked: "bool" = False  # all of it is a secret: it was made with the option `sensitive`
    environment: "JsonObject" = {}  # variables that were set for it
    notify: "list[str]" = []  # the handlers of a change; only the history has them

    @classmethod
    def read(cls, data: "Json") -> "RecordedCall":
        """Return the call that a dict describes, also one of state format 2, which had another word for `sensitive`."""
        if isinstance(data, dict) and "sealed" in data:
            data = dict(data, sensitive=data["sealed"])
        return super(RecordedCall, cls).read(data)

    @property
    def json(self) -> "str":
        return canonical(self.plain())


def read_calls(text: "str | None") -> "list[RecordedCall] | None":
    """Return the calls of a record's column, None when it has none."""
    return None if text is None else [RecordedCall.read(call) for call in plain_json.loads(text)]


class Record(object):
    """What is remembered of one resource: a row of the table of that name. Times are epoch seconds.

    What is JSON in the table stays text until it is used: of most records only the checksum is compared.
    """

    COLUMNS = (
        "key", "module", "type", "id", "checksum", "desired", "observed", "site", "task", "place",
        "created_at", "changed_at", "checked_at", "run", "seq", "calls", "before_first_change", "orphaned",
        "superseded_by", "other_sites",
    )  # fmt: skip
    JSON = ("desired", "observed", "calls", "before_first_change")
    __slots__ = (
        *COLUMNS[:5],
        "desired_json",
        "observed_json",
        *COLUMNS[7:15],
        "calls_json",
        "first_json",
        *COLUMNS[17:],
    )

    key: "str"
    module: "str"
    type: "str"
    id: "str"
    checksum: "str"
    desired_json: "str | None"
    observed_json: "str | None"
    site: "str | None"
    task: "str | None"
    place: "str | None"
    created_at: "int"
    changed_at: "int"
    checked_at: "int"
    run: "str | None"
    seq: "int"
    calls_json: "str | None"
    first_json: "str | None"
    orphaned: "int | None"
    superseded_by: "str | None"  # the key of the record that manages the thing since
    other_sites: "str | None"  # a JSON list of the sites that name it, too; `site` did so last

    def __init__(self, row: "Sequence[Column]") -> "None":
        """row: the values of COLUMNS."""
        for name, value in zip(Record.__slots__, row):
            setattr(self, name, value)

    def row(self) -> "tuple[Column, ...]":
        """Return the values of COLUMNS."""
        return tuple(getattr(self, name) for name in Record.__slots__)

    @property
    def desired(self) -> "Attributes | None":
        found: "Attributes | None" = _decoded(self.desired_json)
        return found

    @property
    def observed(self) -> "Attributes | None":
        found: "Attributes | None" = _decoded(self.observed_json)
        return found

    @property
    def calls(self) -> "list[RecordedCall] | None":
        return read_calls(self.calls_json)

    @property
    def is_active(self) -> "bool":
        """Whether its site names it, and no other record manages its thing since."""
        return self.orphaned is None and self.superseded_by is None

    @property
    def sites(self) -> "list[str]":
        """The other sites that name it, the one that did so last at the end."""
        found: "list[str]" = _decoded(self.other_sites) or []
        return found

    @property
    def is_created(self) -> "bool":
        """Whether its first change was ours, so that removing it is, too."""
        return self.first_json is not None

    @property
    def before_first_change(self) -> "Attributes | None":
        """What was there before our first change; None also when nothing was, or when we have changed nothing yet."""
        found: "Attributes | None" = _decoded(self.first_json)
        return found

    @property
    def is_sensitive(self) -> "bool":
        """Whether the recorded calls had secrets in them."""
        text = self.calls_json
        if text is None or not ('"sensitive"' in text or '"sealed"' in text):
            return False
        return any(call.sensitive for call in self.calls or ())

    def former(self) -> "str":
        """Return what History keeps of this record when it is replaced, as JSON. See state/records.py restore()."""
        parts = ['"checksum":' + canonical(self.checksum), '"created_at":%d' % self.created_at]
        texts = (("desired", self.desired_json), ("observed", self.observed_json), ("calls", self.calls_json))
        parts += ['"%s":%s' % (name, "null" if text is None else text) for name, text in texts]
        names = ("site", "task", "place", "other_sites")
        parts += ['"%s":%s' % (name, canonical(getattr(self, name))) for name in names]
        if self.first_json is not None:
            parts.append('"before_first_change":' + self.first_json)
        return "{%s}" % ",".join(parts)

    def shown(self) -> "JsonObject":
        """Return it as commands print it: the form of "record" in report/schema_state.json."""
        shown = dict(zip(Record.COLUMNS, self.row()))
        for name in Record.JSON[:3]:
            shown[name] = _decoded(getattr(self, name + "_json"))
        del shown["before_first_change"]
        return dict(shown, made=_decoded(self.first_json), ours=self.is_created, other_sites=self.sites)


class Context(Value):
    """On whose behalf a call is made: for the record, and for the handlers that must follow a change."""

    run: "str" = ""
    site: "str" = ""
    who: "str" = ""
    origin: "str" = ""
    task: "str" = ""
    where: "str" = ""  # the line of the site, "site.sloth:12"
    notify: "list[str]" = []
    sensitive: "bool" = False
    masked: "bool" = False  # nothing of the call may be recorded
    environment: "JsonObject" = {}
    adopt: "bool" = False  # record what is there, and fail where it is not as desired


class Outcome(Value):
    """What became of a call; before, after and diff are redacted."""

    status: "Status"
    reason: "Reason" = Reason.NONE
    msg: "str" = ""
    diff: "Diff | None" = None
    values: "Attributes" = {}
    before: "Attributes | None" = None
    after: "Attributes | None" = None
    unknown: "bool" = False  # a check cannot know the values


class ReplicaPosition(Value):
    """How much of a state file the controller's replica has."""

    id: "str"
    seq: "int"


class ReplicaChange(Value):
    """What a replica lacks."""

    id: "str"
    seq: "int"
    removed: "list[str]" = []  # keys of records that no longer exist
    whole: "bool" = False  # the replica must begin anew
    rows: "list[JsonObject]" = []  # new and changed records; on the wire they come before, in pages


def _decoded(text: "str | None") -> "Json":
    return None if text is None else plain_json.loads(text)
