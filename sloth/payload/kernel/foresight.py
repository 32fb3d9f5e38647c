"""What the calls of a check would have changed, for later calls about the same things that nothing else predicts.

A resource with a place(), or that is `foreseeable`, gets the attributes that earlier calls would have left. Of the
others only what was asked for is remembered: a call that asks for the same again finds it done, and what any other call
about the same thing would find is not known.
"""

import os

from sloth.payload.kernel.content import TEXT_LIMIT, Content
from sloth.payload.kernel.resource import Change
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
        self._moved: "set[str]" = set()  # paths below which nothing is known: they would be removed, say, or be links

    def place_of(self, resource: "Resource") -> "str | None":
        """Return the place of a resource that observes nothing else than that."""
        return None if _covers_tree(resource) else resource.place()

    def known(self, resource: "Resource") -> "Known":
        """Return what is known of a call before it observes anything."""
        return Known(resource, [(part, self._of(part)) for part in resource.parts()])

    def remember(self, step: "Step") -> "None":
        """Predict what would be there once a change was made."""
        host, resource, change = self._host, step.resource, step.change
        place = self.place_of(resource)
        for part in step.parts:
            if not part.change.names:
                continue
            after = part.change.after
            for thing in self._note(part.resource, part.checksum, place is not None):
                if not thing.startswith(_PATH):
                    continue
                if "#" not in thing and (after is None or after.get("type") == "link" or _covers_tree(part.resource)):
                    self._move(thing)
                if after is not None and part.change.before is None:
                    _predict_directory(os.path.dirname(_file(thing)), host)
        if place is not None:
            host.predicted[place] = _predict(place, change, host)
        elif resource.foreseeable:
            host.predicted[resource.key()] = resource.foresee(change.before, change.after)
        if resource.makes_directory and change.after is not None:
            _predict_directory(resource.identity(), host)

    def note_missing(self, resource: "Resource", may_differ: "bool") -> "None":
        """Remember a call that needs what is not there yet; may_differ: it may find that nothing is to be done.

        Raises Failed when its own things are not known either.
        """
        if resource.foreseeable:  # others with its key ask for other attributes, but for those that end something
            asked = self._asked.setdefault(resource.key(), set())
            asked.clear() if may_differ else asked.add(wish(resource, self._redactor))
            return
        self._note_unseen(resource, may_differ)

    def note_unknown(self, resource: "Resource") -> "None":
        """Remember a call of which it is not known what it would find."""
        self._note_unseen(resource, True)

    def _note_unseen(self, resource: "Resource", may_differ: "bool") -> "None":
        place = self.place_of(resource)
        for part in resource.parts():
            things = self._note(part, _UNKNOWN if may_differ else wish(part, self._redactor), place is not None)
            if resource.removes or _covers_tree(part):
                for thing in things:
                    self._move(thing)
            paths = [os.path.dirname(_file(thing)) for thing in things if thing.startswith(_PATH)]
            for path in [*paths, part.identity()] if part.makes_directory else paths:
                while _is_missing(path, self._host):  # it may make them
                    self._host.predicted.pop(path, None)
                    self._wishes["path:" + path] = _UNKNOWN
                    path = os.path.dirname(path)

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
        if part.makes_directory and self._is_below_moved("path:%s/" % part.identity()):
            found.add(_UNKNOWN)
        for thing in self._things(part):
            whole, _, inside = thing.partition("#")
            if thing in self._wishes:
                found.add(self._wishes[thing])
            others = self._inside.get(whole, [])
            if inside:
                others = [one for one in others if _may_meet(one, thing)]
            if others or (inside and whole in self._wishes) or self._is_below_moved(whole):
                found.add(_UNKNOWN)
            elif _covers_tree(part) and any(one.startswith(whole + "/") for one in self._wishes):
                found.add(_UNKNOWN)
        return found == {wish(part, self._redactor)} if found else None

    def _things(self, part: "Resource") -> "list[str]":
        """Return what a part claims, also by the paths to which links lead."""
        things = part.claims()
        for thing in [thing for thing in things if thing.startswith(_PATH)]:
            whole, mark, inside = thing.partition("#")
            real = "path:" + self._host.resolve(_file(whole))
            # A part is one of what a link leads to; of what is a whole, only some follow it.
            if real != whole and (inside or part.args.__dict__.get("follow")):
                things.append(real + mark + inside)
        return things

    def _forget(self, thing: "str", is_placed: "bool") -> "None":
        """Forget what was known of a thing, and of what is inside it."""
        whole, _, inside = thing.partition("#")
        if not is_placed:  # what observes only this place is told what would be there
            self._host.predicted.pop(_file(whole) if whole.startswith(_PATH) else whole, None)
        if inside:
            self._inside.setdefault(whole, []).append(thing)
            return
        for one in self._inside.pop(whole, ()):
            self._wishes.pop(one, None)

    def _move(self, thing: "str") -> "None":
        """Note that nothing is known any more of what is below a path."""
        self._moved.add(thing)
        below = _file(thing) + "/"
        for place in [place for place in self._host.predicted if place.startswith(below)]:
            del self._host.predicted[place]

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
    while _is_missing(path, host):
        host.predicted[path] = _new("directory", host)
        path = os.path.dirname(path)


def _is_missing(path: "str", host: "Host") -> "bool":
    return host.predicted[path] is None if path in host.predicted else not os.path.isdir(path)


def _new(kind: "str", host: "Host") -> "Attributes":
    """Return the attributes that a new file or directory has of which nothing else is asked."""
    mask = os.umask(0)
    os.umask(mask)
    mode = "%04o" % ((0o777 if kind == "directory" else 0o666) & ~mask)
    return {"type": kind, "mode": mode, "owner": host.user, "group": host.group}


def _covers_tree(resource: "Resource") -> "bool":
    return bool(resource.args.__dict__.get("recurse"))


def _may_meet(one: "str", other: "str") -> "bool":
    """Return whether two parts of a file may be about the same bytes of it."""
    if one.partition("#")[2].partition(":")[0] != other.partition("#")[2].partition(":")[0]:
        return True
    return one.startswith(other + ":") or other.startswith(one + ":")  # all keys of a host, and one of them


def _file(thing: "str") -> "str":
    """Return the path of the file that a thing is, or is a part of."""
    return thing.partition("#")[0][len(_PATH) - 1 :]


def part_change(resource: "Resource", part: "Resource", change: "Change") -> "Change":
    """Return what of a call's change is that of one of its parts."""
    return change if part is resource else resource.part_change(part, change)
