"""file.lineinfile: one line of a file that others write too."""

from sloth.payload.kernel.resource import ArgumentError, Field
from sloth.payload.lib.patterns import check_template, compiled, expand
from sloth.payload.modules.file.text import CREATE, EDIT_FIELDS, RETURNS, TextEdit, raw


class LineInFile(TextEdit):
    r"""Sees to it that a line is in a file, replaces one, or removes lines; the semantics are Ansible's lineinfile.

    With `regexp` (or `search_string`) the last line that matches is replaced, the first with `firstmatch`. When none
    does, a line that equals `line` counts as it; else `line` is added after the last line that matches `insertafter`,
    or before the last that matches `insertbefore` (the first ones with `firstmatch`), else at the end of the file.
    With `state = "absent"` all lines that match `regexp`, contain `search_string` or equal `line` are removed.
    Other bytes of the file stay as they are, whatever their encoding and line ends.

    Other than Ansible: a flag such as `(?i)` in the middle of a regular expression is taken as if it were at the
    start (Ansible fails where Python is 3.11 or later), and an edit that would change the file at every run, such as
    `backrefs` with a pattern that matches its own result and adds to it, is made and warned of.
    """

    name = "file.lineinfile"
    missing = "Destination %s does not exist !"
    fields = (
        *EDIT_FIELDS,
        CREATE,
        Field("line", aliases=("value",), help="the line, without its end; required unless state is absent"),
        Field("regexp", aliases=("regex",), help="Python's regular expression; looked for anywhere in each line"),
        Field("search_string", help="text to look for in each line, literally"),
        Field("state", default="present", choices=("present", "absent"), help="whether the line is to be there"),
        Field("insertafter", help='where to add a new line: a regular expression, "EOF" (the default) or "BOF"'),
        Field("insertbefore", help='where to add a new line: a regular expression or "BOF"'),
        Field(
            "backrefs",
            "bool",
            False,
            help=r"expand \1 or \g<name> in line from what regexp matched; no match: no change",
        ),
        Field("firstmatch", "bool", False, help="the first match counts, not the last"),
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
    def check_together(cls, values):
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

    def part(self):
        args = self.args
        return next(text for text in (args.regexp, args.search_string, args.line) if text is not None)

    def absent_is_fine(self):
        return self.args.state == "absent"

    def desired(self, now):
        for name in ("regexp", "search_string"):
            if getattr(self.args, name) == "":
                self.host.warn("%s is empty: it matches every line of %s" % (name, self.path))
        self._matches = self._matcher()
        self._anchor = self._anchor_pattern()
        if self.args.backrefs and self.args.state == "present":
            check_template("line", self.args.line)
        return TextEdit.desired(self, now)

    def _matcher(self):
        """What tells a line that is meant (a match or True), or None when neither regexp nor search_string is given."""
        if self.args.regexp is not None:
            return compiled("regexp", raw(self.args.regexp), warn=self.host.warn).search
        if self.args.search_string is not None:
            wanted = raw(self.args.search_string)
            return lambda line: wanted in line
        return None

    def _anchor_pattern(self):
        args = self.args
        if args.state == "present":
            if args.insertafter not in (None, "BOF", "EOF"):
                return compiled("insertafter", raw(args.insertafter), warn=self.host.warn)
            if args.insertbefore not in (None, "BOF"):
                return compiled("insertbefore", raw(args.insertbefore), warn=self.host.warn)
        return None

    def edit(self, data, new):
        lines = data.split(b"\n")
        lines = [line + b"\n" for line in lines[:-1]] + ([lines[-1]] if lines[-1] else [])
        if self.args.state == "present":
            done = self._put(lines)
        else:
            line = None if self.args.line is None else raw(self.args.line)
            meant = self._matches or (lambda other: other.rstrip(b"\r\n") == line)
            kept = [other for other in lines if not meant(other)]
            done = "%d line(s) removed" % (len(lines) - len(kept)) if len(kept) < len(lines) else ""
            lines = kept
        return b"".join(lines), done

    def _put(self, lines):
        args = self.args
        line = raw(args.line)
        at, match = self._find(lines)
        anchor = -1
        if not match:
            at, anchor = self._find_place(lines, line)
        if at != -1:
            text = expand("line", match, line) if args.backrefs and match else line
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

    def _find(self, lines):
        """Return (index, match) of the line that regexp or search_string means, or (-1, None)."""
        at, match = -1, None
        if self._matches is not None:
            for index, line in enumerate(lines):
                found = self._matches(line)
                if found:
                    at, match = index, found
                    if self.args.firstmatch:
                        break
        return at, match

    def _find_place(self, lines, line):
        """Return (index of a line that equals `line`, index at which to insert it); -1 where there is none."""
        at = anchor = -1
        for index, other in enumerate(lines):
            if other.rstrip(b"\r\n") == line:
                at = index
            elif self._anchor is not None and self._anchor.search(other):
                if self.args.insertafter or self.args.insertbefore:
                    anchor = index + 1 if self.args.insertafter else index
                    if self.args.firstmatch:
                        break
        return at, anchor
