"""file.blockinfile: a block of lines, between two marker lines, in a file that others write too."""

import re

from sloth.payload.kernel.resource import ArgumentError, Field
from sloth.payload.lib.patterns import compiled
from sloth.payload.modules.file.text import CREATE, EDIT_FIELDS, RETURNS, TextEdit, raw

MARKER = "# {mark} ANSIBLE MANAGED BLOCK"  # Ansible's, so that files taken over from it converge


class BlockInFile(TextEdit):
    """Sees to it that a block of lines is in a file, or is not; the semantics are Ansible's blockinfile.

    The block stands between two marker lines by which it is found again, and an existing block is replaced where it
    is. A new one goes after the last line that matches `insertafter`, or before the last that matches `insertbefore`,
    else to the end. An empty block removes it. A marker line without its partner does not count. Several blocks in one
    file need a marker each.

    Other than Ansible: with a multi-line (`(?m)`) pattern positions are counted in bytes (Ansible goes astray in files
    with other than ASCII text), and a marker without `{mark}`, which adds the block at every run, is warned of.
    """

    name = "file.blockinfile"
    fields = (
        *EDIT_FIELDS,
        CREATE,
        Field("block", default="", aliases=("content",), help="the lines; empty: the block is removed"),
        Field("state", default="present", choices=("present", "absent"), help="whether the block is to be there"),
        Field("marker", default=MARKER, help="the marker lines; {mark} becomes marker_begin and marker_end"),
        Field("marker_begin", default="BEGIN", help="what {mark} is in the line before the block"),
        Field("marker_end", default="END", help="what {mark} is in the line after the block"),
        Field("insertafter", help='where to add a new block: a regular expression or "EOF" (the default)'),
        Field("insertbefore", help='where to add a new block: a regular expression or "BOF"'),
        Field("append_newline", "bool", False, help="see to an empty line after the block, unless the file ends there"),
        Field(
            "prepend_newline", "bool", False, help="see to an empty line before the block, unless the file begins there"
        ),
    )
    returns = RETURNS
    example = """\
file.blockinfile({
  path = "/etc/hosts",
  marker = "# {mark} cluster",
  block = "10.0.0.1 db1\\n10.0.0.2 db2\\n",
})"""

    @classmethod
    def check_together(cls, values):
        if values["insertbefore"] is not None and values["insertafter"] is not None:
            raise ArgumentError("%s takes either insertbefore or insertafter, not both" % cls.name)

    def part(self):
        args = self.args
        if (args.marker, args.marker_begin, args.marker_end) == (MARKER, "BEGIN", "END"):
            return ""
        if (args.marker_begin, args.marker_end) == ("BEGIN", "END"):
            return args.marker
        return args.marker.replace("{mark}", args.marker_begin + "/" + args.marker_end)

    def absent_is_fine(self):
        return self.args.state == "absent" and self.args.create

    def desired(self, now):
        args = self.args
        self._place = None
        if args.insertafter not in (None, "EOF"):
            self._place = compiled("insertafter", raw(args.insertafter), warn=self.host.warn)
        elif args.insertbefore not in (None, "BOF"):
            self._place = compiled("insertbefore", raw(args.insertbefore), warn=self.host.warn)
        return TextEdit.desired(self, now)

    def edit(self, data, new):
        args = self.args
        lines = data.splitlines(True)
        marker = raw(args.marker)
        begin = marker.replace(b"{mark}", raw(args.marker_begin)) + b"\n"
        end = marker.replace(b"{mark}", raw(args.marker_end)) + b"\n"
        present = args.state == "present"
        block = []
        if present and args.block:
            text = raw(args.block)
            block = [begin] + (text if text.endswith(b"\n") else text + b"\n").splitlines(True) + [end]
        at = self._take_out(lines, begin, end)
        if at is None:
            at = self._new_place(data, lines)
        if at > 0 and not lines[at - 1].endswith(b"\n"):
            lines[at - 1] += b"\n"
        if present and args.prepend_newline and at != 0 and lines[at - 1] != b"\n":
            lines.insert(at, b"\n")
            at += 1
        lines[at:at] = block
        after = at + len(block)
        if present and args.append_newline and after < len(lines) and lines[after] != b"\n":
            lines.insert(after, b"\n")
        result = b"".join(lines)
        if new:
            return result, "File created"
        if result == data:
            return result, ""
        return result, "Block inserted" if block else "Block removed"

    @staticmethod
    def _take_out(lines, begin, end):
        """Remove the block with its markers; return the index where it was, or None when it is not there."""
        first = last = None
        for index, line in enumerate(lines):
            if line == begin:
                first = index
            if line == end:
                last = index
        if first is None or last is None:
            return None
        first, last = min(first, last), max(first, last)
        del lines[first : last + 1]
        return first

    def _new_place(self, data, lines):
        at = None
        if self._place is None:
            return 0 if self.args.insertbefore is not None else len(lines)
        if self._place.flags & re.MULTILINE:
            found = self._place.search(data)
            if found:
                at = data.count(b"\n", 0, found.end() if self.args.insertafter else found.start())
        else:
            for index, line in enumerate(lines):
                if self._place.search(line):
                    at = index
        if at is None:
            return len(lines)
        return min(at + 1, len(lines)) if self.args.insertafter is not None else at
