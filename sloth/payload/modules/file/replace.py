"""file.replace: every match of a regular expression in a file, or in a section of it."""

import re

from sloth.payload.kernel.resource import REQUIRED, ArgumentError, Field
from sloth.payload.lib.patterns import check_template, compiled, substitute
from sloth.payload.modules.file.text import EDIT_FIELDS, RETURNS, TextEdit


class Replace(TextEdit):
    r"""Replaces all that matches a regular expression; the semantics are Ansible's replace.

    `^` and `$` match at every line, `.` does not match a line end. `after` and `before` are regular expressions, too,
    in which `.` does: only what lies between their first matches is edited; when they match nothing, nothing is.

    Other than Ansible: a flag such as `(?i)` in the middle of a regular expression is taken as if it were at the
    start (Ansible fails where Python is 3.11 or later), a replacement that matches again and so changes the file
    at every run is made and warned of, and owner, group and mode hold even when the section is not found.
    """

    name = "file.replace"
    subject = "path"
    fields = (
        *EDIT_FIELDS,
        Field(
            "regexp",
            default=REQUIRED,
            aliases=("regex",),
            help="what to replace: Python's regular expression, multi-line",
        ),
        Field("replace", default="", help=r"what to put there; \1 and \g<name> are what groups matched; empty: remove"),
        Field("after", help="regular expression: only what follows it is edited"),
        Field("before", help="regular expression: only what comes before it is edited"),
        Field("encoding", default="utf-8", help="the file's encoding; bytes that are not of it are kept"),
    )
    returns = RETURNS
    example = """\
file.replace({
  path = "/etc/hosts",
  regexp = [[(\\s+)old\\.example\\.com(\\s+.*)?$]],
  replace = [[\\1new.example.com\\2]],
  backup = true,
})"""

    def part(self):
        parts = [self.args.regexp]
        parts += [
            " %s %s" % (name, text) for name, text in (("after", self.args.after), ("before", self.args.before)) if text
        ]
        return "".join(parts)

    def desired(self, now):
        after, before = self.args.after, self.args.before
        section = ""
        if after and before:
            section = "%s(?P<subsection>.*?)%s" % (after, before)
        elif after:
            section = "%s(?P<subsection>.*)" % after
        elif before:
            section = "(?P<subsection>.*)%s" % before
        self._section = compiled("after/before", section, re.DOTALL, self.host.warn) if section else None
        self._pattern = compiled("regexp", self.args.regexp, re.MULTILINE, self.host.warn)
        check_template("replace", self.args.replace)
        return TextEdit.desired(self, now)

    def edit(self, data, new):
        encoding = self.args.encoding
        try:
            text = data.decode(encoding, "surrogateescape")
        except LookupError:
            raise ArgumentError("there is no encoding %s" % encoding, hint="say utf-8, latin-1, ...")
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
