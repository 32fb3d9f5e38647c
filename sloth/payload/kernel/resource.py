"""What a module author writes: the declaration of a call's arguments and one of three kinds of call.

    Resource   something with a converged state: observe(), desired(now), apply(change)
    Action     something that is simply done: guard(), run()
    Query      something that is only read: look()

A class declares `name` ("file.copy"), `fields` (its arguments), `returns` (what its result holds besides the common
fields), a docstring (its documentation) and an `example` in Lua. The kernel (converge.py) does everything else.
What a subclass must define raises NotImplementedError here: abc's check would cost every host an import.
"""

# Modules import everything that they declare with from here.
from sloth.payload.kernel.errors import ArgumentError, Failed, Missing, did_you_mean
from sloth.payload.kernel.field import REQUIRED, Field
from sloth.payload.kernel.hashing import as_utf8
from sloth.payload.kernel.record import Asset
from sloth.payload.kernel.status import DriftBy

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, ClassVar, Mapping, Sequence

    from sloth.payload.kernel.values import Arguments, Attributes, Json
    from sloth.payload.lib.host import Host

__all__ = (
    "REQUIRED", "Action", "Args", "ArgumentError", "Asset", "Call", "Change", "DriftBy", "Failed", "Field", "Missing",
    "Query", "Resource", "did_you_mean", "difference",
)  # fmt: skip


class Args(object):
    """A call's arguments, each an attribute; what was not given has its field's default."""

    def __init__(self, values: "Arguments") -> "None":
        self.__dict__.update(values)

    def __contains__(self, name: "str") -> "bool":
        return self.__dict__.get(name) is not None

    if TYPE_CHECKING:

        def __getattr__(self, name: "str") -> "Any":  # a Field's type says what it is, and coerce() keeps it so
            ...


class Call(object):
    """Base of the three kinds. `args` is an Args, `host` the payload's Host, `assets` what the controller ships."""

    name = ""
    fields: "ClassVar[tuple[Field, ...]]" = ()
    returns: "ClassVar[tuple[Field, ...]]" = ()
    example = ""
    alone = ""  # the argument that may be given without its name, where there is not exactly one required one
    subject = ""  # the argument that names what a call is about, for reports, where that is not the one given alone
    ships = ""  # "file": the controller resolves `src`/`content` to assets; "template": it renders `src` first
    render_options: "ClassVar[tuple[str, ...]]" = ()  # with ships = "template": arguments that are the renderer's
    fetches = False  # the host sends a file, which the controller stores
    unknown_hint = ""  # what helps where a check cannot know this call's result

    def __init__(self, args: "Args", host: "Host", assets: "Sequence[Asset]" = ()) -> "None":
        self.args = args
        self.host = host
        self.assets = list(assets)

    @classmethod
    def positional(cls) -> "str":
        """The argument that may be given alone, without its name: `alone`, else the only required one, else ""."""
        required = [field.name for field in cls.fields if field.required]
        return cls.alone or (required[0] if len(required) == 1 else "")

    @classmethod
    def subject_of(cls, values: "Mapping[str, Json]") -> "str":
        """Return what a call with these arguments is about, for people; it may be long, and may contain secrets."""
        value = values.get(cls.subject or cls.positional())
        if isinstance(value, (list, tuple)):
            return " ".join(str(item) for item in value)
        return "" if value is None else str(value)

    @classmethod
    def check(cls, given: "Mapping[str, Json]") -> "Arguments":
        """Return all arguments, defaults filled in; raise ArgumentError on unknown, missing or mistyped ones.

        `given` holds what the user wrote, under names or aliases; under "" what was given alone. A None counts as not
        given.
        """
        if "" in given:
            if not cls.positional():
                raise ArgumentError("%s takes a table with names, such as %s({name = value})" % (cls.name, cls.name))
            given = dict(given)
            given[cls.positional()] = given.pop("")
        names = _names_of(cls)
        values: "Arguments" = {}
        for key in given:
            if key not in names:
                from sloth.payload.kernel.options import NAMES

                raise ArgumentError(
                    "%s has no argument %r" % (cls.name, key),
                    hint=did_you_mean(str(key), [*names, *NAMES])
                    or "it takes " + ", ".join(sorted(f.name for f in cls.fields)),
                )
            if given[key] is None:
                continue
            field = names[key]
            if field.name in values:
                raise ArgumentError("%s was given %s twice (as %r)" % (cls.name, field.name, key))
            try:
                values[field.name] = field.coerce(given[key])
            except ArgumentError as error:
                raise ArgumentError("%s: %s" % (cls.name, error.message), hint=error.hint)
        for field in cls.fields:
            if field.name not in values:
                if field.required:
                    raise ArgumentError("%s needs %s" % (cls.name, field.name), hint=field.help)
                values[field.name] = field.default
        cls.check_together(values)
        return values

    @classmethod
    def check_together(cls, values: "Arguments") -> "None":
        """Hook: raise ArgumentError when arguments contradict one another. `values` is complete."""

    def identity(self) -> "str":
        """Return the last part of the state key: what distinguishes this one from others of its type."""
        raise TypeError("%s has no identity" % self.name)

    def key(self) -> "str":
        r"""Return the state key `{module}:{type}:{id}`. It is UTF-8: other bytes of a name are written as \udcXX."""
        module, _, kind = self.name.partition(".")
        return as_utf8("%s:%s:%s" % (module, kind, self.identity()))

    def given(self) -> "Arguments":
        """Return the arguments that were given, as a dict."""
        given = {}
        for field in self.fields:
            value = self.args.__dict__[field.name]
            if value is not None and value != field.default:
                given[field.name] = value
        return given


_names: "dict[type[Call], dict[str, Field]]" = {}
_secrets: "dict[type[Call], frozenset[str]]" = {}


def _names_of(cls: "type[Call]") -> "dict[str, Field]":
    """Return the fields of a class of calls by their names and aliases."""
    if cls not in _names:
        _names[cls] = dict((name, field) for field in cls.fields for name in (field.name, *field.aliases))
    return _names[cls]


def secrets_of(cls: "type[Call]") -> "frozenset[str]":
    """Return the names of the arguments that are secret."""
    if cls not in _secrets:
        _secrets[cls] = frozenset(field.name for field in cls.fields if field.secret)
    return _secrets[cls]


class Resource(Call):
    """Something with a converged state: it has converged when desired(observe()) equals observe()."""

    partial = False  # manages a part of what observe() returns; before its first record that part counts as absent
    removes = False  # its converged state is absence
    merged = False  # several calls of a run describe it under one key, each some of its attributes
    foreseeable = False  # in a check, calls see what earlier ones with the same key would have done; has no place()
    makes_directory = False  # its identity is the path of a directory, which it makes and does not claim
    drift_by = DriftBy.DESIRED
    volatile: "ClassVar[tuple[str, ...]]" = ()  # attributes that a rollback need not bring back
    guards: "ClassVar[tuple[str, ...]]" = ()  # arguments that say that a call is not needed, and count for no rollback

    def place(self) -> "str | None":
        """Return what observe() shows, so that a check can predict it: a file's path, "user:NAME" or "group:NAME"."""
        return None

    def foresee(self, before: "Attributes | None", desired: "Attributes | None") -> "Attributes | None":
        """Return what a `foreseeable` resource would observe once `desired` is applied; what is left out may change."""
        return None if desired is None else dict(before or {}, **desired)

    def wants_nothing(self) -> "bool":
        """Return whether what does not exist yet may be as desired once it does, so that a check cannot know it."""
        return self.removes

    def claims(self) -> "list[str]":
        """Return the things on the host that this manages, so that none is managed by two records.

        "path:/etc/motd" is a whole file or directory, "path:/etc/hosts#..." a part of a file, "user:deploy",
        "package:nginx" and the like are what they say. This one is for whole files, accounts, and what has one
        identity in its namespace. A path is canonical: see Host.canonical().
        """
        paths = ["path:" + self.host.canonical(path) for path in sorted(self.files({}))]
        if paths:
            return ["%s#%s:%s" % (path, self.name, self.identity()) for path in paths] if self.partial else paths
        return [self.place() or "%s:%s" % (self.name.partition(".")[0], self.identity())]

    def needs(self) -> "list[str]":
        """Return the things without which this cannot be; pruning leaves them.

        Here: the accounts that it names, and the links that its paths are or lead through.
        """
        found: "list[str]" = []
        for declared in self.fields:
            path = self.args.__dict__.get(declared.name) if declared.type == "path" else None
            if path:
                found += ["path:" + link for link in self.host.links(self.host.expand(path))]
        for kind, fields in (("user", ("owner", "user")), ("group", ("group", "groups"))):
            for field in fields:
                value = self.args.__dict__.get(field)
                names = value if isinstance(value, list) else [value]
                found += ["%s:%s" % (kind, name) for name in names if name and name != "root"]
        return found

    def takes_along(self) -> "list[str]":
        """Return the things that apply() would remove besides its own; asked before something is pruned by it."""
        return []

    def parts(self) -> "list[Resource]":
        """Return the resources that this call describes, each of which has a record of its own."""
        return [self]

    def part_change(self, part: "Resource", change: "Change") -> "Change":
        """Return what of this call's change is that of one of its parts()."""
        return change

    def part_observed(self, part: "Resource", change: "Change", observed: "Attributes | None") -> "Attributes | None":
        """Return what of this call's observed attributes is that of one of its parts(), whose change was `change`."""
        names = change.after if change.after is not None else change.before
        if observed is None or names is None:
            return observed
        found = dict((name, observed[name]) for name in names if name in observed)
        return found if any(value is not None for value in found.values()) else None

    def observe(self) -> "Attributes | None":
        """Read the host, change nothing; return a dict of attributes, or None when absent."""
        raise NotImplementedError(self.name)

    def desired(self, now: "Attributes | None") -> "Attributes | None":
        """Pure: given what observe() returned, return what should be there (dict), or None: absent."""
        raise NotImplementedError(self.name)

    def apply(self, change: "Change") -> "Attributes | None":
        """Make the change. May return a dict of extra result values (such as backup_file)."""
        raise NotImplementedError(self.name)

    def result(self, now: "Attributes | None") -> "Attributes":
        """Return extra values of the result, given what is there in the end."""
        return {}

    # Taking back. What these are given was recorded: contents may no longer be kept, secrets are not there.

    def files(self, attributes: "Attributes | None") -> "dict[str, Attributes | None]":
        """Return the files among `attributes`: path -> its attributes, or None. {}: it is no file."""
        place = self.place() or ""
        return {place: attributes} if place.startswith("/") else {}

    def removal(self, before: "Attributes | None") -> "tuple[str, Arguments] | None":
        """Return the call that removes what the first change created, where there was `before`: (name, arguments).

        None: there is none. This one finds the same call with state = "absent", where that is something the call has.
        """
        has_state = any(field.name == "state" and "absent" in (field.choices or ()) for field in self.fields)
        if not has_state or (before is not None and not self.partial):
            return None
        args = dict((name, value) for name, value in self.given().items() if name not in ("src", "content"))
        return self.name, dict(args, state="absent")

    def way_back(self, before: "Attributes | None", after: "Attributes | None") -> "tuple[str, Arguments] | Attributes":
        """Return how a change from `before` to `after` is taken back, where it is no file.

        Returns a call (name, arguments), or a dict: attributes that apply() is to bring about. Raises Failed with the
        reason when it cannot be.
        """
        if after is None:
            raise Failed("what was removed was not kept")
        created = before is None or (before.get("content") is None and after.get("content") is not None)
        if before is not None and not created:
            return dict((name, before.get(name)) for name in after)
        call = self.removal(None)
        if call is None:
            raise Failed("%s has no way to remove what it created" % self.name)
        return call


class Action(Call):
    """Something that is simply done; it never claims to be idempotent."""

    reconnects = False  # the controller connects again after it (or instead of it, when it only waits)
    forecast = "would run"  # what a check reports
    only_waits = False  # it changes nothing, but what it waits for may come of what a check does not do

    def guard(self) -> "str":
        """Return why it need not be done now, or "" when it must be."""
        return ""

    def run(self) -> "Attributes":
        """Do it; return a dict of result values. The key "changed" (bool) may be among them; True otherwise."""
        raise NotImplementedError(self.name)

    def unrun(self, why: "str") -> "Attributes":
        """Return the result values of a call that its guard stopped; `why` is what guard() returned."""
        return {}

    def safe_in_check(self) -> "bool":
        """Return whether it changes nothing, so that it may run in a check."""
        return False

    def foresee(self) -> "None":
        """Hook: in a check, note what would exist once it has run."""


class Query(Call):
    """Something that is only read: it runs in check mode too, is never a change, and leaves no record."""

    def identity(self) -> "str":
        return ""

    def look(self) -> "Attributes":
        """Return a dict of result values."""
        raise NotImplementedError(self.name)


class Change(object):
    """What apply() is to do: `before` and `after` are observed and desired attributes (dict or None: absent)."""

    __slots__ = ("after", "before", "names")

    def __init__(self, before: "Attributes | None", after: "Attributes | None") -> "None":
        self.before = before
        self.after = after
        self.names = difference(before, after)

    def __contains__(self, name: "str") -> "bool":
        """Return whether the attribute `name` differs."""
        return name in self.names


def difference(observed: "Attributes | None", desired: "Attributes | None") -> "list[str]":
    """Return the sorted names of attributes in which `observed` is not yet as `desired` names it.

    Absence counts as the pseudo attribute "" (one side None and the other not).
    """
    if observed is None and desired is None:
        return []
    if desired is None:
        return [""]
    if observed is None:
        return ["", *sorted(desired)] if desired else [""]
    missing = object()
    return sorted(name for name in desired if observed.get(name, missing) != desired[name])
