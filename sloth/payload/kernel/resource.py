"""What a module author writes: the declaration of a call's arguments and one of three kinds of call.

    Resource   something with a converged state: observe(), desired(now), apply(change)
    Action     something that is simply done: guard(), run()
    Query      something that is only looked at: look()

A class declares `name` ("file.copy"), `fields` (its arguments), `returns` (what its result holds besides the common
fields), a docstring (its documentation) and an `example` in Lua. The kernel (converge.py) does everything else.
What a subclass must have raises NotImplementedError here: abc's check at construction would cost every host an import.
"""

import importlib
import os

# Modules take all that they declare with from here.
from sloth.payload.kernel.field import REQUIRED, ArgumentError, Failed, Field, Missing, did_you_mean

__all__ = (
    "REQUIRED", "Action", "Args", "ArgumentError", "Call", "Change", "Failed", "Field", "Missing", "Query", "Resource",
    "call_names", "did_you_mean", "difference", "find", "registry",
)  # fmt: skip


class Args(object):
    """A call's arguments, each an attribute; what was not given has its field's default."""

    def __init__(self, values):
        self.__dict__.update(values)

    def __contains__(self, name):
        return self.__dict__.get(name) is not None


class Call(object):
    """Base of the three kinds; `args` is an Args, `host` the payload's Host, `assets` what the controller ships."""

    name = ""
    fields = ()
    returns = ()
    example = ""
    alone = ""  # the argument that may be given without its name, where there is not exactly one required one
    ships = ""  # "file": the controller resolves `src`/`content` to assets; "template": it renders `src` first

    def __init__(self, args, host, assets=()):
        self.args = args
        self.host = host
        self.assets = list(assets)

    @classmethod
    def positional(cls):
        """The argument that may be given alone, without its name: `alone`, else the only required one, else ""."""
        required = [field.name for field in cls.fields if field.required]
        return cls.alone or (required[0] if len(required) == 1 else "")

    @classmethod
    def check(cls, given):
        """Return a dict of all arguments, defaults filled in; raise ArgumentError on unknown, missing or mistyped.

        `given` holds what the user wrote, under names or aliases; under "" what was given alone. A None counts as not
        given.
        """
        if "" in given:
            if not cls.positional():
                raise ArgumentError("%s takes a table with names, such as %s({name = value})" % (cls.name, cls.name))
            given = dict(given)
            given[cls.positional()] = given.pop("")
        names = {}
        for field in cls.fields:
            names[field.name] = field
            for alias in field.aliases:
                names[alias] = field
        values = {}
        for key in given:
            if key not in names:
                raise ArgumentError(
                    "%s has no argument %r" % (cls.name, key),
                    hint=did_you_mean(str(key), names) or "it takes " + ", ".join(sorted(f.name for f in cls.fields)),
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
    def check_together(cls, values):
        """Hook: raise ArgumentError when arguments contradict one another. `values` is complete."""

    def identity(self):
        """The last part of the state key: what tells this one from others of its type, as a str."""
        raise TypeError("%s has no identity" % self.name)

    def key(self):
        """The state key `{module}:{type}:{id}`."""
        module, _, kind = self.name.partition(".")
        return "%s:%s:%s" % (module, kind, self.identity())


class Resource(Call):
    """Something with a converged state: it has converged when desired(observe()) equals observe()."""

    partial = False  # manages a part of what observe() shows; before its first record that part counts as absent
    removes = False  # its converged state is absence
    merged = False  # several calls of a run describe it under one key, each some of its attributes
    survey = "wish"  # how drift is told: "wish": by asking desired() again; "record": by the record; "": not at all

    def place(self):
        """What observe() shows: a file's path, "user:NAME" or "group:NAME"; None when it is none of these.

        It lets a check see what earlier calls would have done.
        """
        return None

    def observe(self):
        """Read the host, change nothing; return a dict of attributes, or None when absent."""
        raise NotImplementedError(self.name)

    def desired(self, now):
        """Pure: given what observe() returned, return what should be there (dict), or None: absent."""
        raise NotImplementedError(self.name)

    def apply(self, change):
        """Make it so. `change` is a Change. May return a dict of extra result values (say backup_file)."""
        raise NotImplementedError(self.name)

    def result(self, now):
        """Extra values of the result, from what is there in the end (dict or None)."""
        return {}

    # Taking back. What these are given was recorded: contents may be gone, secrets are not there.

    def files(self, attributes):
        """The files among `attributes`: path -> its attributes, or None. {}: it is no file."""
        place = self.place() or ""
        return {place: attributes} if place.startswith("/") else {}

    def given(self):
        """The arguments that were given, as a dict."""
        values = ((field, getattr(self.args, field.name)) for field in self.fields)
        return dict((field.name, value) for field, value in values if value is not None and value != field.default)

    def removal(self, before):
        """The call that removes what the first change made, where there was `before`: (name, arguments), or None.

        This one finds the same call with state = "absent", where that is something the call knows.
        """
        knows = any(field.name == "state" and "absent" in (field.choices or ()) for field in self.fields)
        if not knows or (before is not None and not self.partial):
            return None
        args = dict((name, value) for name, value in self.given().items() if name not in ("src", "content"))
        return self.name, dict(args, state="absent")

    def way_back(self, before, after):
        """How a change from `before` to `after` is taken back, where it is no file.

        Returns a call (name, arguments), or a dict: attributes that apply() is to bring about. Raises Failed with why
        it cannot be.
        """
        if after is None:
            raise Failed("what was removed was not kept")
        unmade = before is None or (before.get("content") is None and after.get("content") is not None)
        if not unmade:
            return dict((name, before.get(name)) for name in after)
        call = self.removal(None)
        if call is None:
            raise Failed("%s has no way to remove what it made" % self.name)
        return call


class Action(Call):
    """Something that is simply done; it never claims to be idempotent."""

    def guard(self):
        """Return why it need not be done now (str), or '' when it must."""
        return ""

    def run(self):
        """Do it; return a dict of result values. The key "changed" (bool) may be among them; True otherwise."""
        raise NotImplementedError(self.name)

    def unrun(self, why):
        """Return the result values of a call that its guard stopped; `why` is what guard() returned."""
        return {}

    def safe_in_check(self):
        """Whether it changes nothing, so that it may run in a check."""
        return False


class Query(Call):
    """Something that is only looked at: runs in check mode too, is never a change, leaves no record."""

    def identity(self):
        return ""

    def look(self):
        """Return a dict of result values."""
        raise NotImplementedError(self.name)


class Change(object):
    """What apply() is to do: `before` and `after` are observed and desired attributes (dict or None: absent)."""

    def __init__(self, before, after):
        self.before = before
        self.after = after
        self.names = difference(before, after)

    def __contains__(self, name):
        """Whether the attribute `name` differs."""
        return name in self.names


def difference(observed, desired):
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


def find(name, package="sloth.payload.modules"):
    """Return the Call class named `name` ("file.copy"); raise ArgumentError, with the nearest word, when none is.

    `ns.verb` is looked for in the module `ns/verb.py`, then `ns.py`, below `package`.
    """
    namespace, _, verb = name.partition(".")
    for path in ("%s.%s" % (namespace, verb), namespace):
        if not all(part.isidentifier() for part in path.split(".")):
            continue
        full = "%s.%s" % (package, path)
        try:
            module = importlib.import_module(full)
        except ImportError as error:
            if getattr(error, "name", None) and full.startswith(error.name):
                continue
            raise
        for thing in vars(module).values():
            if isinstance(thing, type) and issubclass(thing, Call) and thing.name == name:
                return thing
    names = call_names(package)
    hint = did_you_mean(name, names)
    if not hint and not any(known.startswith(namespace + ".") for known in names):
        hint = "modules are " + ", ".join(sorted(set(known.partition(".")[0] for known in names)))
    raise ArgumentError("there is no module %s" % name, hint=hint)


def call_names(package="sloth.payload.modules"):
    """The names of all calls below `package`, sorted; read from the sources, since importing them all takes long."""
    import re

    found = set()
    for directory in importlib.import_module(package).__path__:
        for root, _, names in os.walk(directory):
            for name in names:
                if name.endswith(".py"):
                    with open(os.path.join(root, name), encoding="utf-8") as file:
                        found.update(re.findall(r"^    name = [\"']([a-z0-9_]+\.[a-z0-9_]+)[\"']", file.read(), re.M))
    return sorted(found)


def registry(package="sloth.payload.modules"):
    """Return every Call class below `package`, sorted by name."""
    import pkgutil

    classes = {}
    root = importlib.import_module(package)
    for info in pkgutil.walk_packages(root.__path__, package + "."):
        for thing in vars(importlib.import_module(info.name)).values():
            if isinstance(thing, type) and issubclass(thing, Call) and thing.name:
                classes[thing.name] = thing
    return [classes[name] for name in sorted(classes)]
