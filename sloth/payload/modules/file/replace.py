"""file.replace: replaces every match of a regular expression in a file, or in a section of it."""

from sloth.payload.kernel.resource import REQUIRED, ArgumentError, Field
from sloth.payload.lib.patterns import check_template, compile_pattern, substitute
from sloth.payload.lib.regex import re
from sloth.payload.modules.file.text import EDIT_FIELDS, RETURNS, TextEdit

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sloth.payload.kernel.values import Attributes


class Replace(TextEdit):
    r"""Replace every match of a regular expression; the semantics are those of Ansible's replace.

    `^` and `$` match at every line, `.` does not match the end of a line. `after` and `before` are regular expressions,
    too, in which `.` does: only the text between their first matches is edited; when they do not match, nothing is.

    Other than Ansible: a flag such as `(?i)` in the middle of a regular expression counts as if it were at the start
    (Ansible fails where Python is 3.11 or later).

    Other than Ansible: a replacement that regexp matches again, so that every run changes the file, causes a warning.

    Other than Ansible: owner, group and mode are set even when the section is not found, and are those of the file that
    a link leads to; an invalid `regexp` is an error even then.

    Other than Ansible: `after` and `before` may be alternatives such as `A|B` (Ansible splits its whole pattern there).

    Other than Ansible: in a file whose lines all end with CR LF, the lines that are written do, too, and `$` matches
    before the CR, unless one of the arguments contains `\r`.
    """

    name = "file.replace"
    subject = "path"
    fields = (
        *EDIT_FIELDS,
        Field(
            "regexp",
            default=REQUIRED,
            aliases=("regex",),
            help="what to replace: a regular expression of Python, in multi-line mode",
        ),
        Field(
            "replace",
            default="",
            help=r"the replacement; \1 and \g<name> stand for the groups that regexp matched; empty: remove",
        ),
        Field("after", help="a regular expression: only the text after its match is edited"),
        Field("before", help="a regular expression: only the text before its match is edited"),
        Field("encoding", default="utf-8", help="the file's encoding; bytes that it cannot decode are kept"),
    )
    returns = RETURNS
    example = """\
file.replace({
  path = "/etc/hosts",
  regexp = [[(\\s+)old\\.example\\.com(\\s+.*)?$]],
  replace = [[\\1new.example.com\\2]],
  backup = true,
})"""

    def part(self) -> "str":
        parts: "list[str]" = [self.args.regexp]
        parts += [
            " %s %s" % (name, text) for name, text in (("after", self.args.after), ("before", self.args.before)) if text
        ]
        return "".join(parts)

    def desired(self, now: "Attributes | None") -> "Attributes | None":
        after, before = self.args.after, self.args.before
        section = ""
        # Each in a group of its own, so that "A|B" means what it means by itself.
        if after and before:
            section = "(?:%s)(?P<subsection>.*?)(?:%s)" % (after, before)
        elif after:
            section = "(?:%s)(?P<subsection>.*)" % after
        elif before:
            section = "(?P<subsection>.*)(?:%s)" % before
        # A call that mentions the CR, perhaps to remove it, works on the bytes as they are.
        texts = (self.args.regexp, self.args.replace, after, before)
        self.keeps_crlf = not any("\r" in text or "\\r" in text or "\\x0d" in text.lower() for text in texts if text)
        self._section = compile_pattern("after/before", section, re.DOTALL, self.host.warn) if section else None
        self._pattern = compile_pattern("regexp", self.args.regexp, re.MULTILINE, self.host.warn)
        check_template("replace", self.args.replace)
        return TextEdit.desired(self, now)

    def edit(self, data: "bytes", is_new: "bool") -> "tuple[bytes, str]":
        encoding = self.args.encoding
        try:
            text = data.decode(encoding, "surrogateescape")
        except LookupError:
            raise ArgumentError("there is no encoding %s" % encoding, hint="such as utf-8 or latin-1")
        except UnicodeError as error:
            raise ArgumentError("%s is not %s: %s" % (self.path, encoding, error), hint="set encoding")
        start, end = 0, len(text)
        if self._section is not None:
            found = self._section.search(text)
            if not found:
                return data, ""
            start, end = found.span("subsection")
        edited, count = substitute(self._pattern, self.args.replace, text[start:end])
        if not count or edited == text[start:end]:
            return data, ""
        try:
            result = (text[:start] + edited + text[end:]).encode(encoding, "surrogateescape")
        except UnicodeError as error:
            raise ArgumentError("replace cannot be written as %s: %s" % (encoding, error), hint="set encoding")
        return result, "%d replacements made" % count
