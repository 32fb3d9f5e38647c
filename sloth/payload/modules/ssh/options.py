"""The options of OpenSSH's client configuration: one table of keywords with the values that ssh accepts.

ssh refuses to connect anywhere while its configuration holds one wrong keyword or value, so none is written.
"""

from sloth.payload.kernel.resource import ArgumentError, did_you_mean
from sloth.payload.lib.regex import expression, re

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sloth.payload.kernel.values import Json

# A word that is not among the choices is one of these, or it is wrong. ssh_config(5) describes the keywords.
_FLAG = ("yes", "no")
_TIME = expression(r"(?i)^(?:[0-9]+[smhdw]?)+$")
_COUNT = expression(r"^[0-9]+$")
_PORT = expression(r"(?i)^(?:0*[1-9][0-9]{0,4}|ssh)$")
_SOCKET = expression(r"^\S*[/$~%].*$")
_ESCAPE = expression(r"^\^?.$")
_ENDPOINT = r"(?:(?:\S*[:/])?[0-9]{1,5}|\S*[/$%]\S*)"  # [address:]port, or the path of a socket
_TARGET = r"(?:\S*[:/][0-9]{1,5}|\S*[/$%]\S*)"
_LISTEN = expression(r"^%s$" % _ENDPOINT)
_FORWARD = expression(r"^%s\s+%s$" % (_ENDPOINT, _TARGET))
_REMOTE = expression(r"^%s(?:\s+%s)?$" % (_ENDPOINT, _TARGET))

_LEVELS = ("quiet", "fatal", "error", "info", "verbose", "debug", "debug1", "debug2", "debug3")
_FACILITIES = ("daemon", "user", "auth", "authpriv") + tuple("local%d" % number for number in range(8))

_FLAGS = (
    "BatchMode", "CanonicalizeFallbackLocal", "CheckHostIP", "ClearAllForwardings", "Compression",
    "EnableEscapeCommandline", "EnableSSHKeysign", "ExitOnForwardFailure", "ForkAfterAuthentication", "ForwardX11",
    "ForwardX11Trusted", "GatewayPorts", "GSSAPIAuthentication", "GSSAPIDelegateCredentials", "GSSAPIKeyExchange",
    "GSSAPIRenewalForcesRekey", "GSSAPITrustDns", "HashKnownHosts", "HostbasedAuthentication", "IdentitiesOnly",
    "KbdInteractiveAuthentication", "NoHostAuthenticationForLocalhost", "PasswordAuthentication",
    "PermitLocalCommand", "ProxyUseFdpass", "StdinNull", "StreamLocalBindUnlink", "TCPKeepAlive", "VisualHostKey",
    "WarnWeakCrypto",
    # Older names of some of them:
    "ChallengeResponseAuthentication", "KeepAlive", "SkeyAuthentication", "TISAuthentication",
)  # fmt: skip
_WORDS = (
    ("AddressFamily", ("any", "inet", "inet6")),
    ("CanonicalizeHostname", ("yes", "no", "always")),
    ("ControlMaster", ("yes", "no", "ask", "auto", "autoask")),
    ("DSAAuthentication", ("yes", "no", "unbound", "host-bound")),
    ("FingerprintHash", ("md5", "sha1", "sha256", "sha384", "sha512")),
    ("LogLevel", _LEVELS),
    ("PubkeyAuthentication", ("yes", "no", "unbound", "host-bound")),
    ("RequestTTY", ("yes", "no", "force", "auto")),
    ("SessionType", ("none", "subsystem", "default")),
    ("StrictHostKeyChecking", ("yes", "no", "ask", "off", "accept-new")),
    ("SyslogFacility", _FACILITIES),
    ("Tunnel", ("yes", "no", "point-to-point", "ethernet")),
    ("UpdateHostKeys", ("yes", "no", "ask")),
    ("VerifyHostKeyDNS", ("yes", "no", "ask")),
)
# Keywords with choices, or a value of a certain form: keyword -> (choices, form, what the form is).
_FORMS = (
    ("AddKeysToAgent", (("yes", "no", "ask", "confirm"), expression(r"(?i)^(?:confirm\s+)?(?:[0-9]+[smhdw]?)+$"),
                        "a time such as 10m")),
    ("CanonicalizeMaxDots", ((), _COUNT, "a number")),
    ("ConnectionAttempts", ((), expression(r"^0*[1-9][0-9]*$"), "a number above 0")),
    ("ConnectTimeout", (("none",), _TIME, "a time such as 30 or 1m")),
    ("ControlPersist", (_FLAG, _TIME, "a time such as 10m")),
    ("DynamicForward", ((), _LISTEN, "[address:]port")),
    ("EscapeChar", (("none",), _ESCAPE, "a character, or ^ and a letter")),
    ("ForwardAgent", (_FLAG, _SOCKET, "the path of a socket, or $ and the name of a variable")),
    ("ForwardX11Timeout", (("none",), _TIME, "a time such as 20m")),
    ("LocalForward", ((), _FORWARD, "[address:]port host:port")),
    ("NumberOfPasswordPrompts", ((), _COUNT, "a number")),
    ("ObscureKeystrokeTiming", (_FLAG, expression(r"(?i)^interval:[0-9]+$"), "interval:MILLISECONDS")),
    ("Port", ((), _PORT, "a number from 1 to 65535")),
    ("RekeyLimit", ((), expression(r"(?i)^(?:default|[0-9]+[kmg]?)(?:\s+(?:none|(?:[0-9]+[smhdw]?)+))?$"),
                    "a size such as 1G, and a time")),
    ("RemoteForward", ((), _REMOTE, "[address:]port [host:port]")),
    ("RequiredRSASize", ((), _COUNT, "a number of bits")),
    ("ServerAliveCountMax", ((), _COUNT, "a number")),
    ("ServerAliveInterval", (("none",), _TIME, "a time such as 30 or 1m")),
    ("StreamLocalBindMask", ((), expression(r"^[0-7]+$"), "an octal number")),
)  # fmt: skip
_TEXTS = (
    "BindAddress", "BindInterface", "CanonicalDomains", "CanonicalizePermittedCNAMEs", "CASignatureAlgorithms",
    "CertificateFile", "ChannelTimeout", "Ciphers", "ControlPath", "GlobalKnownHostsFile", "GSSAPIClientIdentity",
    "GSSAPIKexAlgorithms", "GSSAPIServerIdentity", "HostbasedAcceptedAlgorithms", "HostKeyAlgorithms", "HostKeyAlias",
    "Hostname", "IdentityAgent", "IdentityFile", "IgnoreUnknown", "Include", "IPQoS", "KbdInteractiveDevices",
    "KexAlgorithms", "KnownHostsCommand", "LocalCommand", "LogVerbose", "MACs", "PermitRemoteOpen", "PKCS11Provider",
    "PreferredAuthentications", "ProxyCommand", "ProxyJump", "PubkeyAcceptedAlgorithms", "RefuseConnection",
    "RemoteCommand", "RevokedHostKeys", "SecurityKeyProvider", "SendEnv", "SetEnv", "Tag", "TunnelDevice", "User",
    "UserKnownHostsFile", "XAuthLocation",
    # Older names, and keywords that ssh accepts and ignores:
    "AFSTokenPassing", "Cipher", "CompressionLevel", "FallBackToRsh", "GlobalKnownHostsFile2", "HostbasedKeyTypes",
    "IdentityFile2", "KerberosAuthentication", "KerberosTGTPassing", "Protocol", "PubkeyAcceptedKeyTypes",
    "RhostsAuthentication", "RhostsRSAAuthentication", "RSAAuthentication", "SmartcardDevice",
    "UsePrivilegedPort", "UserKnownHostsFile2", "UseRoaming", "UseRsh",
)  # fmt: skip

# Values of a keyword in several lines count together; of every other one ssh takes the first.
ACCUMULATING = (
    "certificatefile",
    "dynamicforward",
    "identityfile",
    "localforward",
    "remoteforward",
    "sendenv",
    "setenv",
)
# ssh uses the one that it reads first and ignores the other.
EXCLUSIVE = ("proxycommand", "proxyjump")


class Option(object):
    """A keyword: its usual spelling, the words that its value may be, and the form of any other value."""

    __slots__ = ("choices", "form", "form_name", "keyword")

    def __init__(
        self,
        keyword: "str",
        choices: "tuple[str, ...]" = (),
        form: "re.Pattern[str] | None" = None,
        form_name: "str" = "",
    ) -> "None":
        """choices and form both empty: any text."""
        self.keyword = keyword
        self.choices = choices
        self.form = form
        self.form_name = form_name

    @property
    def has_flags(self) -> "bool":
        """Whether true and false are among the values."""
        return "yes" in self.choices

    def normalize(self, value: "str") -> "str":
        """Return the value as it is written; raise ArgumentError when ssh would not accept it."""
        if not self.choices and self.form is None:
            return value
        word = _unquoted(value).lower()
        if word in self.choices:
            return word if self.has_flags else value
        if self.form is not None and self.form.match(_unquoted(value)) and not self._has_bad_port(word):
            return value
        if self.has_flags and word in _SYNONYMS:
            return _SYNONYMS[word]
        expected = ", ".join(self.choices)
        if self.form_name:
            expected = "%s or %s" % (expected, self.form_name) if expected else self.form_name
        raise ArgumentError(
            "%s must be %s%s, not %r" % (self.keyword, "one of " if self.choices else "", expected, value),
            hint=did_you_mean(word, self.choices),
        )

    def _has_bad_port(self, word: "str") -> "bool":
        if self.form not in (_PORT, _LISTEN, _FORWARD, _REMOTE):
            return False
        smallest = 0 if self.form is _REMOTE else 1  # 0: the server chooses
        ports = re.findall(r"(?:^|[:/\s])([0-9]{1,5})(?=\s|$)", word)
        return any(not smallest <= int(port) <= 65535 for port in ports)

    def same(self, one: "str", other: "str") -> "bool":
        """Return whether ssh takes two values for the same."""
        if self.choices:
            one, other = _unquoted(one).lower(), _unquoted(other).lower()
            if self.has_flags:
                one, other = _TRUTH.get(one, one), _TRUTH.get(other, other)
        return one == other


# How sites write flags; ssh itself takes only the first two, and those not for every keyword.
_SYNONYMS = {"true": "yes", "false": "no", "on": "yes", "off": "no", "1": "yes", "0": "no"}
_TRUTH = {"true": "yes", "false": "no"}  # ssh's own synonyms


def _table() -> "dict[str, Option]":
    options = [Option(keyword, _FLAG) for keyword in _FLAGS]
    options += [Option(keyword, choices) for keyword, choices in _WORDS]
    options += [Option(keyword, *rest) for keyword, rest in _FORMS]
    options += [Option(keyword) for keyword in _TEXTS]
    return dict((option.keyword.lower(), option) for option in options)


OPTIONS = _table()


def find_option(keyword: "str", ignored: "str" = "") -> "Option":
    """Return the Option of a keyword in any case; raise ArgumentError when ssh has none.

    ignored: the value of IgnoreUnknown, whose patterns name keywords that only some versions of ssh have.
    """
    option = OPTIONS.get(keyword.lower())
    if option is not None:
        return option
    import fnmatch

    for pattern in ignored.replace(",", " ").split():
        if fnmatch.fnmatch(keyword.lower(), pattern.lower()):
            return Option(keyword)
    names = dict((name, known.keyword) for name, known in OPTIONS.items())
    raise ArgumentError(
        "%r is not an option of OpenSSH's client" % keyword,
        hint=_nearest_keyword(keyword, names) or "one of a patched ssh must be listed in the option IgnoreUnknown, too",
    )


def _nearest_keyword(keyword: "str", names: "dict[str, str]") -> "str":
    hint = did_you_mean(keyword.lower(), names)
    for name, spelling in names.items():
        hint = hint.replace('"%s"' % name, '"%s"' % spelling)
    return hint


def value_texts(keyword: "str", value: "Json", ignored: "str" = "") -> "list[str]":
    """Return an option's values as ssh reads them, one for each line; raise ArgumentError for a wrong one."""
    option = find_option(keyword, ignored)
    texts = []
    for item in value if isinstance(value, list) else [value]:
        if isinstance(item, bool):
            item = "yes" if item else "no"
        elif isinstance(item, float) and item == int(item):
            item = str(int(item))
        elif isinstance(item, (int, float)):
            item = str(item)
        if not isinstance(item, str) or "\n" in item or "\r" in item:
            raise ArgumentError(
                "the option %s must be a string of one line, a number, true, false or a list of these" % keyword
            )
        if item.strip():
            texts.append(option.normalize(item.strip()))
    return texts


def _unquoted(value: "str") -> "str":
    if len(value) > 1 and value[0] == value[-1] == '"':
        return value[1:-1]
    return value
