"""ssh.config: what a user's SSH client knows of a host."""

import os
import re

from sloth.payload.kernel.resource import REQUIRED, ArgumentError, Field
from sloth.payload.lib.accounts import get_account
from sloth.payload.lib.user_files import UserFile, UserFileEdit, join_lines, split_lines

# Ansible's argument -> the keyword, in the order in which they are written.
_NAMED = (
    ("hostname", "hostname"), ("port", "port"), ("identities_only", "identitiesonly"), ("remote_user", "user"),
    ("identity_file", "identityfile"), ("user_known_hosts_file", "userknownhostsfile"),
    ("strict_host_key_checking", "stricthostkeychecking"), ("proxycommand", "proxycommand"), ("proxyjump", "proxyjump"),
    ("host_key_algorithms", "hostkeyalgorithms"), ("forward_agent", "forwardagent"),
    ("add_keys_to_agent", "addkeystoagent"), ("controlmaster", "controlmaster"), ("controlpath", "controlpath"),
    ("controlpersist", "controlpersist"), ("dynamicforward", "dynamicforward"),
)  # fmt: skip
_ORDER = [keyword for _, keyword in _NAMED]
_KEYWORD = re.compile(r"^[A-Za-z][A-Za-z0-9]*$")
_LINE = re.compile(r"^(\s*)([A-Za-z][A-Za-z0-9]*)(\s*=\s*|\s+)(.*?)(\s*)$", re.DOTALL)
_HELP = {"port": "the port", "hostname": "the real name or address", "remote_user": "the name to log in with"}


class Config(UserFileEdit):
    """Make sure that an SSH client's configuration has a Host block with these options.

    Only the options that are named are compared; others in the block, other blocks and comments stay byte for byte. A
    keyword counts in any case; a list is several lines; true and false are yes and no; an option that is "" is removed.
    A new block goes to the end of the file: OpenSSH takes the first value it finds, so a `Host *` above it wins.
    """

    name = "ssh.config"
    fields = (
        Field("host", "str", REQUIRED, help="what stands behind Host: a name, or patterns"),
        Field("options", "dict", help="any of ssh_config's keywords with their values"),
        Field("state", choices=("present", "absent"), default="present", help="absent: the whole block goes"),
        Field("user", help="whose ~/.ssh/config it is; without it, that of the account the task runs as"),
        Field("path", "path", aliases=("ssh_config_file",), help="the file, instead of a user's"),
        *[Field(name, help=_HELP.get(name, "the keyword of that name, as Ansible calls it")) for name, _ in _NAMED
          if name not in ("identities_only", "forward_agent", "add_keys_to_agent")],
        *[Field(name, "bool", help="the keyword of that name, as Ansible calls it")
          for name in ("identities_only", "forward_agent", "add_keys_to_agent")],
        Field("other_options", "dict", help="as options"),
    )  # fmt: skip
    example = """task({name = "client", run = function()
    ssh.config({host = "production", options = {Hostname = "192.168.1.100", User = "deploy", Port = 22}})
end})"""

    @classmethod
    def check_together(cls, values):
        if values.get("user") and values.get("path"):
            raise ArgumentError("parameters are mutually exclusive: user|ssh_config_file")
        if values.get("proxycommand") and values.get("proxyjump"):
            raise ArgumentError("parameters are mutually exclusive: proxycommand|proxyjump")
        if not values["host"].strip() or "\n" in values["host"]:
            raise ArgumentError("%s: host must be one line" % cls.name)
        seen = set()
        for name, value in _given(values):
            if not _KEYWORD.match(name) or name.lower() in ("host", "match"):
                raise ArgumentError("%s: %r cannot be an option of a Host block" % (cls.name, name))
            if name.lower() in seen:
                raise ArgumentError("%s was given the option %s twice" % (cls.name, name.lower()))
            seen.add(name.lower())
            _values(cls.name, name, value)

    def identity(self):
        return "%s:%s" % (self.args.path or self.args.user or self.host.user, self.args.host)

    @property
    def user_file(self):
        account = get_account(self.host, self.args.user)
        if self.args.path:
            return UserFile(self.host, account, self.host.expand(self.args.path), strict=False, manage=False)
        return UserFile(self.host, account, os.path.join(account.pw_dir, ".ssh", "config"))

    def edit(self, data):
        """The file's bytes with the block as it should be."""
        lines = split_lines(data)
        start, end = _block(lines, self.args.host)
        if self.args.state == "absent":
            return join_lines(lines[:start] + lines[end:]) if start is not None else data
        wish = [(name, _values(self.name, name, value)) for name, value in self._options()]
        if start is None:
            if lines and not lines[-1].endswith("\n"):
                lines[-1] += "\n"
            block = ["Host %s\n" % self.args.host]
            block += ["    %s %s\n" % (name, value) for name, values in wish for value in values]
            return join_lines(lines + block)
        return join_lines(lines[:start] + _edited(lines[start:end], wish) + lines[end:])

    def _options(self):
        def place(item):
            lower = item[0].lower()
            return (_ORDER.index(lower) if lower in _ORDER else len(_ORDER), lower)

        return sorted(_given(vars(self.args)), key=place)


def _given(values):
    """The options that the arguments name, as (keyword, value)."""
    found = [(keyword, values[name]) for name, keyword in _NAMED if values.get(name) is not None]
    for table in (values.get("options"), values.get("other_options")):
        found += sorted((table or {}).items())
    return found


def _values(call, name, value):
    """The lines' values for an option, as a list of str; raises ArgumentError."""
    items = value if isinstance(value, list) else [value]
    texts = []
    for item in items:
        if isinstance(item, bool):
            item = "yes" if item else "no"
        elif isinstance(item, float) and item == int(item):
            item = str(int(item))
        elif isinstance(item, (int, float)):
            item = str(item)
        if not isinstance(item, str) or "\n" in item:
            raise ArgumentError(
                "%s: the option %s must be a text, a number, true, false or a list of these" % (call, name)
            )
        if item.strip():
            texts.append(item.strip())
    return texts


def _block(lines, host):
    """(first, end) of the lines of the block `Host host`, or (None, None)."""
    wanted = host.split()
    start = None
    for at, line in enumerate(lines):
        found = _LINE.match(line)
        keyword = found.group(2).lower() if found and not line.lstrip().startswith("#") else ""
        if keyword not in ("host", "match"):
            continue
        if start is not None:
            return start, _without_tail(lines, start, at)
        if keyword == "host" and found.group(4).split() == wanted:
            start = at
    return (None, None) if start is None else (start, len(lines))


def _without_tail(lines, start, end):
    """Blank lines and comments right before the next block belong to that one."""
    while end > start + 1 and (not lines[end - 1].strip() or lines[end - 1].lstrip().startswith("#")):
        end -= 1
    return end


def _edited(block, wish):
    indent, ending = "    ", "\n"
    for line in block[1:]:
        found = _LINE.match(line)
        if found and found.group(1):
            indent = found.group(1)
            break
    if block[0].endswith("\r\n"):
        ending = "\r\n"
    for name, values in wish:
        at = [
            i for i, line in enumerate(block)
            if i and not line.lstrip().startswith("#") and _LINE.match(line)
            and _LINE.match(line).group(2).lower() == name.lower()
        ]  # fmt: skip
        if [_LINE.match(block[i]).group(4) for i in at] == values:
            continue
        for i, value in zip(at, values):
            parts = _LINE.match(block[i]).groups()
            block[i] = "".join(parts[:3]) + value + (parts[4] if "\n" in parts[4] else ending)
        for i in reversed(at[len(values) :]):
            del block[i]
        place = (at[: len(values)][-1] + 1) if at[: len(values)] else _end_of_options(block)
        if place and not block[place - 1].endswith("\n"):
            block[place - 1] += ending
        block[place:place] = [indent + "%s %s" % (name, value) + ending for value in values[len(at) :]]
    return block


def _end_of_options(block):
    end = len(block)
    while end > 1 and not block[end - 1].strip():
        end -= 1
    return end
