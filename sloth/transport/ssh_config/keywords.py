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

# Those without a meaning for us: sessions of people, forwarding, or left out of OpenSSH long ago.
_OTHERS = """
addkeystoagent afstokenpassing batchmode canonicalizefallbacklocal canonicalizemaxdots canonicalizepermittedcnames
casignaturealgorithms channeltimeout checkhostip cipher clearallforwardings compression compressionlevel
connectionattempts connecttimeout controlmaster controlpath controlpersist dynamicforward enableescapecommandline
enablesshkeysign escapechar exitonforwardfailure fallbacktorsh fingerprinthash forkafterauthentication forwardx11
forwardx11timeout forwardx11trusted gatewayports globalknownhostsfile2 gssapiauthentication gssapiclientidentity
gssapidelegatecredentials gssapikexalgorithms gssapikeyexchange gssapirenewalforcesrekey gssapiserveridentity
gssapitrustdns hashknownhosts host hostbasedacceptedalgorithms hostbasedauthentication include ipqos
kbdinteractivedevices kerberosauthentication kerberostgtpassing localforward loglevel logverbose match
nohostauthenticationforlocalhost numberofpasswordprompts obscurekeystroketiming permitlocalcommand permitremoteopen
protocol rekeylimit remoteforward requesttty requiredrsasize rhostsauthentication rhostsrsaauthentication
rsaauthentication securitykeyprovider serveralivecountmax serveraliveinterval sessiontype stdinnull streamlocalbindmask
streamlocalbindunlink stricthostkeychecking syslogfacility tag tunnel tunneldevice updatehostkeys useprivilegedport
userknownhostsfile2 useroaming usersh verifyhostkeydns versionaddendum visualhostkey warnweakcrypto xauthlocation
"""
KNOWN = USED | frozenset(_OTHERS.split()) | frozenset(ALIASES)
