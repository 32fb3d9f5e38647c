"""What the calls of a check would have changed, for later calls about the same things that nothing else predicts.

A resource with a place(), or that is `foreseeable`, gets the attributes that earlier calls would have left. Of the
others only what was asked for is remembered: a call that asks for the same again finds it done, and what any other call
about the same thing would find is not known.
"""

import os

from sloth.payload.kernel.content import TEXT_LIMIT, Content
from sloth.payload.kernel.resource import Change, Failed
from sloth.payload.kernel.step import wish

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sloth.payload.kernel.redact import Redactor
    from sloth.payload.kernel.resource import Resource
    from sloth.payload.kernel.step import Step
    from sloth.payload.kernel.values import Attributes
    from sloth.payload.lib.host import Host

_UNKNOWN = ""  # the checksum of what nobody knows
_PATH = "path:/"  # what things that are files, or parts of them, begin with


class Foresight(object):
    """What the calls of one check would have changed so far. Things are what resources claim: see Resource.claims()."""

    def __init__(self, host: "Host", redactor: "Redactor") -> "None":
        self._host = host
        self._redactor = redactor
        self._wishes: "dict[str, str]" = {}  # by thing, the checksum of what was asked for last
        self._inside: "dict[str, list[str]]" = {}  # by file, its parts that would be changed after the whole
        self._asked: "dict[str, set[str]]" = {}  # what was asked of the missing, by the key of who is `foreseeable`
        self._moved: "set[str]" = set()  # paths that would be removed, or be links

    def known(self, resource: "Resource") -> "Known":
        """Return what is known of a call before it observes anything."""
        return Known(resource, [(part, self._of(part)) for part in resource.parts()])

    def remember(self, step: "Step", place: "str | None") -> "None":
        """Predict what would be there once a change was made at a place."""
        host, resource, change = self._host, step.resource, step.change
        for part in step.parts:
            if not part.change.names:
                continue
            after = part.change.after
            for thing in self._note(part.resource, part.checksum, place is not None):
                is_file = thing.startswith(_PATH)
                if is_file and "#" not in thing and (after is None or after.get("type") == "link"):
                    self._moved.add(thing)
                if is_file and after is not None and part.change.before is None:
                    _predict_directory(os.path.dirname(_file(thing)), host)
        if place is not None:
            host.predicted[place] = _predict(place, change, host)
        elif resource.foreseeable:
            host.predicted[resource.key()] = resource.foresee(change.before, change.after)
        if resource.makes_directory and change.after is not None:
            _predict_directory(resource.identity(), host)

    def note_missing(self, resource: "Resource", may_differ: "bool") -> "None":
        """Remember a call that needs what is not there yet; may_differ: it may find that nothing is to be done."""
        if resource.foreseeable:  # others with its key ask for other attributes, but for those that end something
            asked = self._asked.setdefault(resource.key(), set())
            asked.clear() if may_differ else asked.add(wish(resource, self._redactor))
            return
        try:
            for part in resource.parts():
                self._note(part, _UNKNOWN if may_differ else wish(part, self._redactor), resource.place() is not None)
        except Failed:  # its own things are not known either
            return

    def note_unknown(self, resource: "Resource") -> "None":
        """Remember a call of which it is not known what it would find."""
        for part in resource.parts():
            self._note(part, _UNKNOWN, resource.place() is not None)

    def _note(self, part: "Resource", checksum: "str", is_placed: "bool") -> "list[str]":
        """Remember what a part of a call would make of its things; return them."""
        things = self._things(part)
        for thing in things:
            self._forget(thing, is_placed)
            self._wishes[thing] = checksum
        return things

    def _of(self, part: "Resource") -> "bool | None":
        """Return whether a part would be as it is asked for; None when no earlier call is about it."""
        if part.foreseeable:
            return wish(part, self._redactor) in self._asked.get(part.key(), ()) or None
        found = set()
        for thing in self._things(part):
            whole, _, inside = thing.partition("#")
            if thing in self._wishes:
                found.add(self._wishes[thing])
            others = self._inside.get(whole, [])
            if inside:
                # "key:host" is all keys of a host, and "key:host:ed25519" one of them.
                others = [one for one in others if one.startswith(thing + ":") or thing.startswith(one + ":")]
            if others or (inside and whole in self._wishes) or self._is_below_moved(whole):
                found.add(_UNKNOWN)
        return found == {wish(part, self._redactor)} if found else None

    def _things(self, part: "Resource") -> "list[str]":
        """Return what a part claims, also by the paths to which links lead."""
        things = part.claims()
        for thing in [thing for thing in things if thing.startswith(_PATH)]:
            whole, mark, inside = thing.partition("#")
            real = "path:" + self._host.resolve(_file(whole))
            if real != whole:
                things.append(real + mark + inside)
        return things

    def _forget(self, thing: "str", is_placed: "bool") -> "None":
        """Forget what was known of a thing, and of what is inside it."""
        whole, _, inside = thing.partition("#")
        if inside:
            self._inside.setdefault(whole, []).append(thing)
            return
        for one in self._inside.pop(whole, ()):
            self._wishes.pop(one, None)
        if not is_placed:  # what observes only this place is told what would be there
            self._host.predicted.pop(_file(whole) if whole.startswith(_PATH) else whole, None)

    def _is_below_moved(self, thing: "str") -> "bool":
        names = thing.split("/")
        return names[0] == "path:" and any("/".join(names[:end]) in self._moved for end in range(2, len(names)))


class Known(object):
    """What is known of the parts of a call: asked for alike by an earlier call, asked for otherwise, or new."""

    def __init__(self, resource: "Resource", parts: "list[tuple[Resource, bool | None]]") -> "None":
        self._resource = resource
        self._is_new = all(is_done is None for _, is_done in parts)
        self._new = [part for part, is_done in parts if is_done is None]
        self._has_others = any(is_done is False for _, is_done in parts)
        self.is_done = all(is_done for _, is_done in parts)
        self.is_unknown = self._has_others and not self._new

    def settle(self, change: "Change") -> "Change | None":
        """Return what the run would find to be changed by this call; None when that cannot be known."""
        if self._is_new or any(part_change(self._resource, part, change).names for part in self._new):
            return change
        return None if self._has_others else Change(change.after, change.after)


def _predict(place: "str", change: "Change", host: "Host") -> "Attributes | None":
    """Return what observe() would return once a change was made; keeps a content that comes only once."""
    if change.after is None:
        return None
    after = dict(change.before or {}, **change.after)
    if not place.startswith("/"):
        return after
    after = dict(_new(after.get("type", "file"), host), **after)
    content = after.get("content")
    if isinstance(content, Content) and content.size <= TEXT_LIMIT:
        content.data()
    return after


def _predict_directory(path: "str", host: "Host") -> "None":
    """Predict a directory, and those that it is in, where they are missing: what is put there makes them."""
    while host.predicted[path] is None if path in host.predicted else not os.path.isdir(path):
        host.predicted[path] = _new("directory", host)
        path = os.path.dirname(path)


def _new(kind: "str", host: "Host") -> "Attributes":
    """Return the attributes that a new file or directory has of which nothing else is asked."""
    mask = os.umask(0)
    os.umask(mask)
    mode = "%04o" % ((0o777 if kind == "directory" else 0o666) & ~mask)
    return {"type": kind, "mode": mode, "owner": host.user, "group": host.group}


def _file(thing: "str") -> "str":
    """Return the path of the file that a thing is, or is a part of."""
    return thing.partition("#")[0][len(_PATH) - 1 :]


def part_change(resource: "Resource", part: "Resource", change: "Change") -> "Change":
    """Return what of a call's change is that of one of its parts."""
    return change if part is resource else resource.part_change(part, change)
