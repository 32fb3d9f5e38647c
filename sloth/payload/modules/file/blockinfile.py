"""file.blockinfile: a block of lines between two marker lines in a file that others write, too."""

from sloth.payload.kernel.resource import ArgumentError, Field
from sloth.payload.lib.patterns import compile_pattern
from sloth.payload.lib.regex import re
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

    Other than Ansible: the END that belongs to a BEGIN is the next one below it (Ansible takes the last of each, in any
    order, and deletes the lines between them). A marker line without the other one causes a warning.

    Other than Ansible: a marker without `{mark}` is the line before and after the block, which is found again (Ansible
    adds it at every run); a marker that is empty or has several lines is an error.

    Other than Ansible: an END at the end of a file without a final newline is found. Without a block to remove,
    `state = "absent"` and an empty `block` change nothing (Ansible adds newlines, some in every run).

    Other than Ansible: `mode`, `owner` and `group` are those of the file that a link leads to, not of the link.

    Other than Ansible: in a file whose lines all end with CR LF, the lines that are written do, too.
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
        for word in (values["marker_begin"], values["marker_end"]):
            line = values["marker"].replace("{mark}", word)
            if not line.strip() or "\n" in line or "\r" in line:
                raise ArgumentError(
                    "%s: marker must be one line that is not empty, not %r" % (cls.name, line),
                    hint="an empty line cannot be told from those of the file",
                )

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
        if now is not None and self._find_block(now["content"].data().splitlines())[1]:
            self.host.warn("%s has a marker line without the other one; it is ignored" % self.path)
        return TextEdit.desired(self, now)

    def edit(self, data: "bytes", is_new: "bool") -> "tuple[bytes, str]":
        args = self.args
        lines = data.splitlines(True)
        is_present = args.state == "present"
        block: "list[bytes]" = []
        if is_present and args.block:
            text = encode(args.block)
            begin, end = self._markers()
            block = [begin + b"\n", *(text if text.endswith(b"\n") else text + b"\n").splitlines(True), end + b"\n"]
        found = self._find_block(lines)[0]
        if found is not None:
            at = found[0]
            del lines[at : found[1] + 1]
        elif block or is_new:
            at = self._find_position(data, lines)
        else:
            return data, ""
        if at > 0 and not lines[at - 1].endswith(b"\n") and (block or at < len(lines)):
            lines[at - 1] += b"\n"
        if is_present and args.prepend_newline and at != 0 and lines[at - 1] != b"\n":
            lines.insert(at, b"\n")
            at += 1
        lines[at:at] = block
        after = at + len(block)
        if is_present and args.append_newline and after < len(lines) and lines[after] != b"\n":
            lines.insert(after, b"\n")
        result = b"".join(lines)
        if is_new:
            return result, "File created"
        if result == data:
            return result, ""
        return result, "Block inserted" if block else "Block removed"

    def _markers(self) -> "tuple[bytes, bytes]":
        """Return the lines before and after the block, without their ends."""
        args = self.args
        marker = encode(args.marker)
        return marker.replace(b"{mark}", encode(args.marker_begin)), marker.replace(b"{mark}", encode(args.marker_end))

    def _find_block(self, lines: "list[bytes]") -> "tuple[tuple[int, int] | None, bool]":
        """Return the indexes of the marker lines of the last block, None without one; and whether another one is alone.

        A block is a BEGIN and the next END with no other BEGIN between them: lines between an END and a later BEGIN, or
        below a BEGIN whose END was lost, are the user's.
        """
        begin, end = self._markers()
        found = None
        first = None
        has_stray = False
        for index, line in enumerate(lines):
            text = line.rstrip(b"\r\n")
            if text == end and first is not None:
                found = (first, index)
                first = None
            elif text == begin:
                has_stray = has_stray or first is not None
                first = index
            elif text == end:
                has_stray = True
        return found, has_stray or first is not None

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
