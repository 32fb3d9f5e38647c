"""Passwords in the URLs of repositories: git gets them neither as arguments nor from a configuration."""

from sloth.payload.lib.regex import expression

_HTTP = expression(r"(?s)^(https?://)([^/@\s]+)@([^/@\s]+)(.*)$")
# What git runs for a user name and password. They are in the environment, which other accounts cannot read.
_HELPER = (
    '!f() { test "$1" = get && printf "username=%s\\npassword=%s\\n" "$SLOTH_GIT_USER" "$SLOTH_GIT_PASSWORD"; }; f'
)


class Login(object):
    """A repository's URL without the user name and password in it, and how git gets them all the same.

    In a URL they would be in the arguments of git and its children, which every account of the host can read, and in
    the configuration of the working copy.
    """

    __slots__ = ("environment", "options", "url")

    def __init__(self, url: "str") -> "None":
        self.url = url
        self.options: "list[str]" = []
        self.environment: "dict[str, str]" = {}
        found = _HTTP.match(url)
        if found is None:
            return
        from urllib.parse import unquote

        scheme, login, host, rest = found.groups()
        user, _, password = login.partition(":")
        self.url = scheme + host + rest
        self.options = ["-c", "credential.helper=", "-c", "credential.%s%s.helper=%s" % (scheme, host, _HELPER)]
        self.environment = {"SLOTH_GIT_USER": unquote(user), "SLOTH_GIT_PASSWORD": unquote(password)}
