"""ssh.config: a user's SSH client configuration for a host."""

import os

from sloth.payload.kernel.resource import REQUIRED, ArgumentError, Field
from sloth.payload.lib.accounts import get_account
from sloth.payload.lib.regex import expression
from sloth.payload.lib.user_files import UserFile, UserFileEdit, join_lines, split_lines
from sloth.payload.modules.ssh.options import ACCUMULATING, EXCLUSIVE, find_option, value_texts

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Mapping

    from sloth.payload.kernel.resource import Change
    from sloth.payload.kernel.values import Arguments, Attributes, Json

# Ansible's argument, the keyword that it stands for, and its help; in the order in which they are written.
_NAMED = (
    ("hostname", "hostname", "real host name or address"),
    ("port", "port", "port to connect to"),
    ("identities_only", "identitiesonly", "IdentitiesOnly: true or false"),
    ("remote_user", "user", "user to log in as"),
    ("identity_file", "identityfile", "IdentityFile: path of a private key"),
    ("user_known_hosts_file", "userknownhostsfile", "UserKnownHostsFile: path"),
    ("strict_host_key_checking", "stricthostkeychecking", "StrictHostKeyChecking: yes, no, ask, off or accept-new"),
    ("proxycommand", "proxycommand", "ProxyCommand: command to connect through"),
    ("proxyjump", "proxyjump", "ProxyJump: host to connect through"),
    ("host_key_algorithms", "hostkeyalgorithms", "HostKeyAlgorithms: list with commas"),
    ("forward_agent", "forwardagent", "ForwardAgent: true, false, or the path of a socket"),
    ("add_keys_to_agent", "addkeystoagent", "AddKeysToAgent: true, false, ask, confirm or a time"),
    ("controlmaster", "controlmaster", "ControlMaster: true, false, ask, auto or autoask"),
    ("controlpath", "controlpath", "ControlPath: path of a socket"),
    ("controlpersist", "controlpersist", "ControlPersist: true, false or a time"),
    ("dynamicforward", "dynamicforward", "DynamicForward: [address:]port"),
)
_ORDER = [keyword for _, keyword, _ in _NAMED]
_KEYWORD = expression(r"^[A-Za-z][A-Za-z0-9]*\Z")
_LINE = expression(r"(?s)^(\s*)([A-Za-z][A-Za-z0-9]*)(\s*=\s*|\s+)(.*?)(\s*)$")
_WORD = expression(r'"([^"]*)"|([^\s"]+)')


class Config(UserFileEdit):
    """Make sure that an SSH client configuration has a Host block with options.

    Only the options that are given are compared; other options of the block, other blocks and comments are kept byte
    for byte. A keyword counts in any case; a list is written as several lines; true and false are yes and no; an option
    that is "" is removed; without options no block is added. A new block goes to the end of the file: OpenSSH takes the
    first value that it finds, so a `Host *` above it takes precedence, and a warning is shown. `state = "absent"`
    removes the block.

    Other than Ansible, a value or keyword that OpenSSH would not accept is refused, since ssh connects nowhere while
    its configuration has one. List a keyword that only a patched ssh has in the option IgnoreUnknown of the same call.

    Other than Ansible, options that the block has and the call does not give are no change, and keywords in
    `other_options` may have capitals.

    Other than Ansible, of several blocks with the same host `state = "absent"` removes all. The first one is edited;
    what is removed from it, or set to a list, is removed from the others, too.

    Other than Ansible, `Host *` is a block like any other (Ansible adds another one in every run and removes none),
    blocks without options and options above the first block stay as they are, comments in a removed block go with it,
    and a file named by IdentityFile need not exist.

    Other than Ansible, ProxyCommand and ProxyJump exclude each other in `options` as well, and a warning says when the
    block already has the other one.

    Other than Ansible, indentation, comments, `Keyword=value` and the order of lines are kept, ~/.ssh is kept at mode
    0700 and the file at 0600, both owned by the user, and root follows no link below the user's home.
    """

    name = "ssh.config"
    fields = (
        Field("host", "str", REQUIRED, help="name or patterns that follow Host"),
        Field("options", "dict", help="keywords of ssh_config with their values"),
        Field("state", choices=("present", "absent"), default="present", help="absent: remove the whole block"),
        Field("user", help="whose ~/.ssh/config it is; by default that of the account the task runs as"),
        Field("path", "path", aliases=("ssh_config_file",), help="the file, instead of a user's"),
        *[Field(name, "any", help=text) for name, _, text in _NAMED],
        Field("other_options", "dict", help="same as options"),
    )  # fmt: skip
    example = """task({name = "client", run = function()
    ssh.config({host = "production", options = {Hostname = "192.168.1.100", User = "deploy", Port = 22}})
end})"""

    @classmethod
    def check_together(cls, values: "Arguments") -> "None":
        if values.get("user") and values.get("path"):
            raise ArgumentError("parameters are mutually exclusive: user|ssh_config_file")
        if not values["host"].strip() or "\n" in values["host"]:
            raise ArgumentError("%s: host must be one line" % cls.name)
        given = _given_options(values)
        seen = set()
        for keyword, _ in given:
            if not _KEYWORD.match(keyword) or keyword.lower() in ("host", "match"):
                raise ArgumentError("%s: %r cannot be an option of a Host block" % (cls.name, keyword))
            if keyword.lower() in seen:
                raise ArgumentError("%s: the option %s is given twice" % (cls.name, keyword.lower()))
            seen.add(keyword.lower())
        try:
            options = _desired_options(values)
        except ArgumentError as error:
            raise ArgumentError("%s: %s" % (cls.name, error.message), hint=error.hint)
        if sum(1 for keyword, texts in options if keyword.lower() in EXCLUSIVE and texts) > 1:
            raise ArgumentError("parameters are mutually exclusive: proxycommand|proxyjump")

    def identity(self) -> "str":
        return "%s:%s" % (self.args.path or self.args.user or self.host.user, self.args.host)

    def part(self) -> "str":
        return str(self.args.host)

    @property
    def user_file(self) -> "UserFile":
        account = get_account(self.host, self.args.user)
        if self.args.path:
            return UserFile(self.host, account, self.host.expand(self.args.path), strict=False, manage=None)
        return UserFile(self.host, account, os.path.join(account.pw_dir, ".ssh", "config"))

    def edit(self, data: "bytes") -> "bytes":
        """Return the file's content with the block as it should be, or without it."""
        lines = split_lines(data)
        blocks = _find_blocks(lines, self.args.host)
        if self.args.state == "absent":
            for start, end in reversed(blocks):
                del lines[start:end]
            return join_lines(lines) if blocks else data
        options = _desired_options(vars(self.args))
        if not blocks and not any(texts for _, texts in options):
            return data
        if not blocks:
            if lines and not lines[-1].endswith("\n"):
                lines[-1] += "\n"
            lines.append("Host %s\n" % self.args.host)
            lines += ["    %s %s\n" % (keyword, text) for keyword, texts in options for text in texts]
            return join_lines(lines)
        # The later blocks first, so that the positions of the earlier ones stay right.
        surplus: "list[tuple[str, list[str]]]" = [
            (keyword, []) for keyword, texts in options if not texts or keyword.lower() in ACCUMULATING
        ]
        for start, end in reversed(blocks[1:]):
            lines[start:end] = _edit_block(lines[start:end], surplus)
        start, end = blocks[0]
        lines[start:end] = _edit_block(lines[start:end], options)
        return join_lines(lines)

    def apply(self, change: "Change") -> "Attributes | None":
        content = (change.after or {}).get("content")
        if content is not None and self.args.state == "present":
            lines = split_lines(content.data())
            if not _find_blocks(lines, self.args.host):
                return UserFileEdit.apply(self, change)
            self._warn_of_other_proxy(lines)
            self._warn_of_precedence(lines)
        return UserFileEdit.apply(self, change)

    def _warn_of_precedence(self, lines: "list[str]") -> "None":
        """Warn when options for all hosts above the block set one of the options: ssh takes the first value."""
        start, _ = _find_blocks(lines, self.args.host)[0]
        desired = dict((name.lower(), texts[0]) for name, texts in _desired_options(vars(self.args)) if texts)
        is_for_all = True
        for line in lines[:start]:
            keyword, value = _keyword(line), _value(line)
            if keyword in ("host", "match"):
                is_for_all = _patterns(value.lower()) == (["*"] if keyword == "host" else ["all"])
            elif is_for_all and keyword in desired and keyword not in ACCUMULATING:
                if not find_option(keyword, keyword).same(value, desired[keyword]):
                    self.host.warn(
                        "ssh uses %s %s, which the file has for all hosts above the block Host %s"
                        % (find_option(keyword, keyword).keyword, value, self.args.host)
                    )

    def _warn_of_other_proxy(self, lines: "list[str]") -> "None":
        """Warn when the block gets one of ProxyCommand and ProxyJump and has the other one already."""
        set_here = [name.lower() for name, texts in _desired_options(vars(self.args)) if texts]
        for start, end in _find_blocks(lines, self.args.host):
            found = [keyword for keyword in (_keyword(line) for line in lines[start:end]) if keyword in EXCLUSIVE]
            other = [keyword for keyword in found if keyword not in set_here]
            if other and len(set(found)) > 1:
                self.host.warn(
                    "the block Host %s has both %s and %s, and ssh uses the first one only; "
                    'set the one that you do not want to ""' % ((self.args.host,) + EXCLUSIVE)
                )


def _given_options(values: "Mapping[str, Json]") -> "list[tuple[str, Json]]":
    """Return the options among the arguments: keyword and value."""
    given = [(keyword, values[name]) for name, keyword, _ in _NAMED if values.get(name) is not None]
    for table in (values.get("options"), values.get("other_options")):
        given += sorted((table or {}).items())
    return given


def _desired_options(values: "Mapping[str, Json]") -> "list[tuple[str, list[str]]]":
    """Return keyword and values (an empty list: removed) of the options, in the order in which they are written."""
    given = _given_options(values)
    ignored = " ".join(str(value) for keyword, value in given if keyword.lower() == "ignoreunknown")

    def position(item: "tuple[str, list[str]]") -> "tuple[int, str]":
        keyword = item[0].lower()
        return (_ORDER.index(keyword) if keyword in _ORDER else len(_ORDER), keyword)

    return sorted([(keyword, value_texts(keyword, value, ignored)) for keyword, value in given], key=position)


def _keyword(line: "str") -> "str":
    """Return the keyword of a line in lower case; "" for blank lines and comments."""
    found = _LINE.match(line)
    return found.group(2).lower() if found and not line.lstrip().startswith("#") else ""


def _value(line: "str") -> "str":
    """Return the value on a line that has a keyword."""
    found = _LINE.match(line)
    return found.group(4) if found else ""


def _patterns(text: "str") -> "list[str]":
    """Return the patterns after Host, without their quotes and a comment at the end."""
    words = []
    for found in _WORD.finditer(text):
        if found.group(1) is None and found.group(2).startswith("#"):
            break
        words.append(found.group(1) if found.group(1) is not None else found.group(2))
    return words


def _find_blocks(lines: "list[str]", host: "str") -> "list[tuple[int, int]]":
    """Return the first line and the end of every block `Host host`."""
    wanted = _patterns(host)
    blocks = []
    start = None
    for at, line in enumerate(lines):
        keyword = _keyword(line)
        if keyword not in ("host", "match"):
            continue
        if start is not None:
            blocks.append((start, _without_tail(lines, start, at)))
        start = at if keyword == "host" and _patterns(_value(line)) == wanted else None
    if start is not None:
        blocks.append((start, len(lines)))
    return blocks


def _without_tail(lines: "list[str]", start: "int", end: "int") -> "int":
    """Return the end of a block without the blank lines and comments before the next one, which belong to that."""
    while end > start + 1 and (not lines[end - 1].strip() or lines[end - 1].lstrip().startswith("#")):
        end -= 1
    return end


def _edit_block(block: "list[str]", options: "list[tuple[str, list[str]]]") -> "list[str]":
    """Return the lines of a block with the values of `options`."""
    indents = [found.group(1) for found in map(_LINE.match, block[1:]) if found and found.group(1)]
    indent = indents[0] if indents else "    "
    ending = "\r\n" if block[0].endswith("\r\n") else "\n"
    for keyword, texts in options:
        at = [i for i, line in enumerate(block) if i and _keyword(line) == keyword.lower()]
        option = find_option(keyword, keyword)
        present = [_value(block[i]) for i in at]
        if len(present) == len(texts) and all(option.same(*pair) for pair in zip(present, texts)):
            continue
        for i, text in zip(at, texts):
            if not option.same(_value(block[i]), text):
                block[i] = _with_value(block[i], text, ending)
        for i in reversed(at[len(texts) :]):
            del block[i]
        kept = at[: len(texts)]
        position = kept[-1] + 1 if kept else _end_of_options(block)
        if position and not block[position - 1].endswith("\n"):
            block[position - 1] += ending
        block[position:position] = [indent + "%s %s" % (keyword, text) + ending for text in texts[len(at) :]]
    return block


def _with_value(line: "str", text: "str", ending: "str") -> "str":
    found = _LINE.match(line)
    assert found is not None  # the caller found a keyword on it
    parts = found.groups()
    return "".join(parts[:3]) + text + (parts[4] if "\n" in parts[4] else ending)


def _end_of_options(block: "list[str]") -> "int":
    end = len(block)
    while end > 1 and not block[end - 1].strip():
        end -= 1
    return end
