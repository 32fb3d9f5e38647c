"""file.blockinfile: a block of lines between two marker lines in a file that others write, too."""

import re

from sloth.payload.kernel.resource import ArgumentError, Field
from sloth.payload.lib.patterns import compile_pattern
from sloth.payload.modules.file.text import CREATE, EDIT_FIELDS, RETURNS, TextEdit, encode

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Pattern

    from sloth.payload.kernel.values import Arguments, Attributes

MARKER = "# {mark} ANSIBLE MANAGED BLOCK"  # Ansible's, so that files taken over from it converge


class BlockInFile(TextEdit):
    """Make sure that a block of lines is in a file, or is not; the semantics are those of Ansible's blockinfile.

    The block is found again by the two marker lines around it, and an existing block is replaced where it stands. A
    new block is inserted after the last line that matches `insertafter`, or before the last line that matches
    `insertbefore`, otherwise at the end of the file. An empty block removes it. A marker line without the other one is
    ignored. Several blocks in one file need different markers.

    Other than Ansible: with a multi-line (`(?m)`) pattern positions are counted in bytes (Ansible picks the wrong line
    in files with text that is not ASCII).

    Other than Ansible: a marker without `{mark}`, which adds the block at every run, causes a warning.
    """

    name = "file.blockinfile"
    fields = (
        *EDIT_FIELDS,
        CREATE,
        Field("block", default="", aliases=("content",), help="the lines; an empty block is removed"),
        Field("state", default="present", choices=("present", "absent"), help="whether the block must be in the file"),
        Field("marker", default=MARKER, help="the marker lines; {mark} becomes marker_begin and marker_end"),
        Field("marker_begin", default="BEGIN", help="replaces {mark} in the line before the block"),
        Field("marker_end", default="END", help="replaces {mark} in the line after the block"),
        Field("insertafter", help='where to insert a new block: a regular expression or "EOF" (the default)'),
        Field("insertbefore", help='where to insert a new block: a regular expression or "BOF"'),
        Field(
            "append_newline",
            "bool",
            False,
            help="make sure that an empty line follows the block, unless the file ends there",
        ),
        Field(
            "prepend_newline",
            "bool",
            False,
            help="make sure that an empty line precedes the block, unless the file begins there",
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
    def check_together(cls, values: "Arguments") -> "None":
        if values["insertbefore"] is not None and values["insertafter"] is not None:
            raise ArgumentError("%s takes either insertbefore or insertafter, not both" % cls.name)

    def part(self) -> "str":
        args = self.args
        if (args.marker, args.marker_begin, args.marker_end) == (MARKER, "BEGIN", "END"):
            return ""
        if (args.marker_begin, args.marker_end) == ("BEGIN", "END"):
            return str(args.marker)
        return str(args.marker).replace("{mark}", args.marker_begin + "/" + args.marker_end)

    def is_absence_fine(self) -> "bool":
        return bool(self.args.state == "absent" and self.args.create)

    def desired(self, now: "Attributes | None") -> "Attributes | None":
        args = self.args
        self._anchor: "Pattern[bytes] | None" = None
        if args.insertafter not in (None, "EOF"):
            self._anchor = compile_pattern("insertafter", encode(args.insertafter), warn=self.host.warn)
        elif args.insertbefore not in (None, "BOF"):
            self._anchor = compile_pattern("insertbefore", encode(args.insertbefore), warn=self.host.warn)
        return TextEdit.desired(self, now)

    def edit(self, data: "bytes", is_new: "bool") -> "tuple[bytes, str]":
        args = self.args
        lines = data.splitlines(True)
        marker = encode(args.marker)
        begin = marker.replace(b"{mark}", encode(args.marker_begin)) + b"\n"
        end = marker.replace(b"{mark}", encode(args.marker_end)) + b"\n"
        present = args.state == "present"
        block: "list[bytes]" = []
        if present and args.block:
            text = encode(args.block)
            block = [begin] + (text if text.endswith(b"\n") else text + b"\n").splitlines(True) + [end]
        at = self._take_out(lines, begin, end)
        if at is None:
            at = self._find_position(data, lines)
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
        if is_new:
            return result, "File created"
        if result == data:
            return result, ""
        return result, "Block inserted" if block else "Block removed"

    @staticmethod
    def _take_out(lines: "list[bytes]", begin: "bytes", end: "bytes") -> "int | None":
        """Remove the block with its markers; return the index where it was, or None when there is none."""
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

    def _find_position(self, data: "bytes", lines: "list[bytes]") -> "int":
        at = None
        if self._anchor is None:
            return 0 if self.args.insertbefore is not None else len(lines)
        if self._anchor.flags & re.MULTILINE:
            found = self._anchor.search(data)
            if found:
                at = data.count(b"\n", 0, found.end() if self.args.insertafter else found.start())
        else:
            for index, line in enumerate(lines):
                if self._anchor.search(line):
                    at = index
        if at is None:
            return len(lines)
        return min(at + 1, len(lines)) if self.args.insertafter is not None else at
