"""The keywords of ssh_config: those that OpenSSH knows, and what matters of their arguments."""

from __future__ import annotations

ALIASES = {
    "dsaauthentication": "pubkeyauthentication",
    "challengeresponseauthentication": "kbdinteractiveauthentication",
    "skeyauthentication": "kbdinteractiveauthentication",
    "tisauthentication": "kbdinteractiveauthentication",
    "identityfile2": "identityfile",
    "pubkeyacceptedkeytypes": "pubkeyacceptedalgorithms",
    "hostbasedkeytypes": "hostbasedacceptedalgorithms",
    "keepalive": "tcpkeepalive",
    "smartcarddevice": "pkcs11provider",
}
# The rest of the line, as it is.
RAW = frozenset({"proxycommand", "localcommand", "remotecommand", "knownhostscommand"})
# Every value counts, in order.
APPENDED = frozenset({"identityfile", "certificatefile", "sendenv"})
# The first line counts, with all its words.
LISTS = frozenset({"userknownhostsfile", "globalknownhostsfile", "setenv", "ignoreunknown", "canonicaldomains"})
# The first line counts; it has one word.
SINGLE = frozenset(
    {
        "addressfamily", "bindaddress", "bindinterface", "canonicalizehostname", "ciphers", "forwardagent",
        "hostkeyalgorithms", "hostkeyalias", "hostname", "identitiesonly", "identityagent",
        "kbdinteractiveauthentication", "kexalgorithms", "macs", "passwordauthentication", "pkcs11provider", "port",
        "preferredauthentications", "proxyjump", "proxyusefdpass", "pubkeyacceptedalgorithms", "pubkeyauthentication",
        "refuseconnection", "revokedhostkeys", "user",
    }
)  # fmt: skip
ONE_WORD = SINGLE | {"identityfile", "certificatefile"}
USED = RAW | APPENDED | LISTS | SINGLE

# Those without a meaning for us: sessions of people, forwarding.
_OTHERS = """
addkeystoagent batchmode canonicalizefallbacklocal canonicalizemaxdots canonicalizepermittedcnames
casignaturealgorithms channeltimeout checkhostip clearallforwardings compression
connectionattempts connecttimeout controlmaster controlpath controlpersist dynamicforward enableescapecommandline
enablesshkeysign escapechar exitonforwardfailure fingerprinthash forkafterauthentication forwardx11
forwardx11timeout forwardx11trusted gatewayports gssapiauthentication gssapiclientidentity
gssapidelegatecredentials gssapikexalgorithms gssapikeyexchange gssapirenewalforcesrekey gssapiserveridentity
gssapitrustdns hashknownhosts host hostbasedacceptedalgorithms hostbasedauthentication include ipqos
kbdinteractivedevices localforward loglevel logverbose match
nohostauthenticationforlocalhost numberofpasswordprompts obscurekeystroketiming permitlocalcommand permitremoteopen
rekeylimit remoteforward requesttty requiredrsasize
securitykeyprovider serveralivecountmax serveraliveinterval sessiontype stdinnull streamlocalbindmask
streamlocalbindunlink stricthostkeychecking syslogfacility tag tunnel tunneldevice updatehostkeys
verifyhostkeydns versionaddendum visualhostkey warnweakcrypto xauthlocation
"""
# Left out of OpenSSH long ago: it reads nothing of their arguments.
OBSOLETE = frozenset(
    {
        "afstokenpassing", "cipher", "compressionlevel", "fallbacktorsh", "globalknownhostsfile2",
        "kerberosauthentication", "kerberostgtpassing", "protocol", "rhostsauthentication", "rhostsrsaauthentication",
        "rsaauthentication", "useprivilegedport", "userknownhostsfile2", "useroaming", "usersh",
    }
)  # fmt: skip
# Those of which a comment may be all there is: `Host # nobody` is of no host, and the others change nothing.
MAY_BE_EMPTY = frozenset(
    {
        "host", "include", "sendenv", "setenv", "userknownhostsfile", "globalknownhostsfile", "canonicaldomains",
        "canonicalizepermittedcnames", "logverbose",
    }
)  # fmt: skip
KNOWN = USED | OBSOLETE | frozenset(_OTHERS.split()) | frozenset(ALIASES)
