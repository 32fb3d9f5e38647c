"""file.lineinfile: one line of a file that others write, too."""

from sloth.payload.kernel.resource import ArgumentError, Field
from sloth.payload.lib.patterns import check_template, compile_pattern, expand
from sloth.payload.modules.file.text import CREATE, EDIT_FIELDS, RETURNS, TextEdit, encode

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Match, Pattern

    from sloth.payload.kernel.values import Arguments, Attributes


class LineInFile(TextEdit):
    r"""Make sure that a line is in a file, or is not; the semantics are those of Ansible's lineinfile.

    With `regexp` (or `search_string`) the last line that matches is replaced, with `firstmatch` the first. When no line
    matches and none equals `line`, `line` is inserted after the last line that matches `insertafter`, or before the
    last line that matches `insertbefore` (the first ones with `firstmatch`), otherwise at the end of the file. With
    `state = "absent"` all lines that match `regexp`, contain `search_string` or equal `line` are removed. All other
    bytes of the file are kept, whatever their encoding.

    Other than Ansible: a flag such as `(?i)` in the middle of a regular expression counts as if it were at the start
    (Ansible fails where Python is 3.11 or later).

    Other than Ansible: an edit that would change the file at every run, such as `backrefs` with a pattern that matches
    its own result and adds to it, causes a warning.

    Other than Ansible: in a file whose lines all end with CR LF, the lines that are written do, too, and `$` matches
    before the CR.

    Other than Ansible: a line that is inserted after the last one, where that has no newline, is a line of its own
    (Ansible adds it to the end of that line).

    Other than Ansible: directories are created only together with the file, `mode`, `owner` and `group` are those of
    the file that a link leads to, not of the link, and `backrefs = false` excludes nothing.

    Other than Ansible: with `firstmatch` a line that equals `line` anywhere in the file counts, not only one before the
    first match of `insertafter` or `insertbefore` (Ansible adds it a second time).
    """

    name = "file.lineinfile"
    missing = "Destination %s does not exist !"
    fields = (
        *EDIT_FIELDS,
        CREATE,
        Field("line", aliases=("value",), help="the line, without its end; required unless state is absent"),
        Field("regexp", aliases=("regex",), help="a regular expression of Python; it may match anywhere in a line"),
        Field("search_string", help="a text that may occur anywhere in a line, literally"),
        Field("state", default="present", choices=("present", "absent"), help="whether the line must be in the file"),
        Field("insertafter", help='where to insert a new line: a regular expression, "EOF" (the default) or "BOF"'),
        Field("insertbefore", help='where to insert a new line: a regular expression or "BOF"'),
        Field(
            "backrefs",
            "bool",
            False,
            help=r"replace \1 and \g<name> in line by the groups that regexp matched; without a match nothing changes",
        ),
        Field("firstmatch", "bool", False, help="use the first match, not the last"),
    )
    returns = RETURNS
    example = """\
file.lineinfile({
  path = "/etc/ssh/sshd_config",
  regexp = "^#?PermitRootLogin ",
  line = "PermitRootLogin no",
  validate = "sshd -t -f %s",
})"""

    @classmethod
    def check_together(cls, values: "Arguments") -> "None":
        for one, other in (("insertbefore", "insertafter"), ("regexp", "search_string")):
            if values[one] is not None and values[other] is not None:
                raise ArgumentError("%s takes either %s or %s, not both" % (cls.name, one, other))
        if values["backrefs"] and values["search_string"] is not None:
            raise ArgumentError("%s takes either backrefs or search_string, not both" % cls.name)
        if values["state"] == "present":
            if values["backrefs"] and values["regexp"] is None:
                raise ArgumentError("regexp is required with backrefs=true")
            if values["line"] is None:
                raise ArgumentError("line is required with state=present")
        elif values["regexp"] is None and values["search_string"] is None and values["line"] is None:
            raise ArgumentError("one of line, search_string, or regexp is required with state=absent")

    def part(self) -> "str":
        args = self.args
        return str(next(text for text in (args.regexp, args.search_string, args.line) if text is not None))

    def claims(self) -> "list[str]":
        path, args = "path:" + self.host.canonical(self.place() or ""), self.args
        if args.line is not None and not args.backrefs and args.state == "present":
            return ["%s#line:%s" % (path, args.line)]  # however it is found
        return ["%s#lines:%s" % (path, self.part())]

    def is_absence_fine(self) -> "bool":
        return bool(self.args.state == "absent")

    def desired(self, now: "Attributes | None") -> "Attributes | None":
        args = self.args
        for name in ("regexp", "search_string"):
            if getattr(args, name) == "":
                self.host.warn("%s is empty: it matches every line of %s" % (name, self.path))
        self._regexp: "Pattern[bytes] | None" = None
        if args.regexp is not None:
            self._regexp = compile_pattern("regexp", encode(args.regexp), warn=self.host.warn)
        self._anchor = self._anchor_pattern()
        if args.backrefs and args.state == "present":
            check_template("line", args.line)
        return TextEdit.desired(self, now)

    def _anchor_pattern(self) -> "Pattern[bytes] | None":
        """Return what finds the line beside which a new one is inserted, or None: at an end of the file."""
        args = self.args
        if args.state == "present":
            if args.insertafter not in (None, "", "BOF", "EOF"):
                return compile_pattern("insertafter", encode(args.insertafter), warn=self.host.warn)
            if args.insertbefore not in (None, "", "BOF"):
                return compile_pattern("insertbefore", encode(args.insertbefore), warn=self.host.warn)
        return None

    def edit(self, data: "bytes", is_new: "bool") -> "tuple[bytes, str]":
        lines = data.split(b"\n")
        lines = [line + b"\n" for line in lines[:-1]] + ([lines[-1]] if lines[-1] else [])
        if self.args.state == "present":
            done = self._put(lines)
        else:
            kept = [line for line in lines if not self._is_removed(line)]
            done = "%d line(s) removed" % (len(lines) - len(kept)) if len(kept) < len(lines) else ""
            lines = kept
        return b"".join(lines), done

    def _is_removed(self, line: "bytes") -> "bool":
        if self._regexp is None and self.args.search_string is None:
            return line.rstrip(b"\r\n") == self._line()
        return self._matches(line)

    def _line(self) -> "bytes":
        line = encode(self.args.line)
        # A CR that was written for the sake of a file with CR LF is part of the line's end there.
        return line.rstrip(b"\r") if self.is_crlf else line

    def _search(self, pattern: "Pattern[bytes]", line: "bytes") -> "Match[bytes] | None":
        """Return the first match in a line. In a file with CR LF the pattern may mention the CR, or ignore it."""
        found = pattern.search(line)
        if found is None and self.is_crlf and line.endswith(b"\n"):
            found = pattern.search(line[:-1] + b"\r\n")
        return found

    def _matches(self, line: "bytes") -> "bool":
        """Return whether regexp or search_string matches a line."""
        if self._regexp is not None:
            return self._search(self._regexp, line) is not None
        if self.args.search_string is None:
            return False
        text = encode(self.args.search_string)
        return (text.rstrip(b"\r") if self.is_crlf else text) in line

    def _put(self, lines: "list[bytes]") -> "str":
        args = self.args
        line = self._line()
        at = self._find(lines)
        is_match, anchor = at != -1, -1
        if not is_match:
            at, anchor = self._find_position(lines, line)
        if at != -1:
            match = None
            if args.backrefs and is_match and self._regexp is not None:
                match = self._search(self._regexp, lines[at])
            text = line if match is None else expand("line", match, line)
            if not text.endswith(b"\n"):
                text += b"\n"
            if lines[at] == text:
                return ""
            lines[at] = text
            return "line replaced"
        if args.backrefs:  # without a match there is nothing to expand
            return ""
        if "BOF" in (args.insertbefore, args.insertafter):
            lines.insert(0, line + b"\n")
        elif anchor == -1 or anchor == len(lines):
            if anchor != -1 and lines[-1].rstrip(b"\r\n") == line:
                return ""
            if lines and lines[-1][-1:] not in (b"\n", b"\r"):
                lines[-1] += b"\n"
            lines.append(line + b"\n")
        else:
            if args.insertafter and lines[anchor].rstrip(b"\r\n") == line:
                return ""
            lines.insert(anchor, line + b"\n")
        return "line added"

    def _find(self, lines: "list[bytes]") -> "int":
        """Return the index of the line that regexp or search_string means, or -1."""
        indexes = [index for index, line in enumerate(lines) if self._matches(line)]
        if not indexes:
            return -1
        return indexes[0 if self.args.firstmatch else -1]

    def _find_position(self, lines: "list[bytes]", line: "bytes") -> "tuple[int, int]":
        """Return the index of a line that equals `line`, and the one at which to insert it; -1 where there is none."""
        at = anchor = -1
        for index, other in enumerate(lines):
            if other.rstrip(b"\r\n") == line:
                at = index
            elif self._anchor is not None and self._search(self._anchor, other):
                if anchor == -1 or not self.args.firstmatch:
                    anchor = index + 1 if self.args.insertafter else index
        return at, anchor
