"""pkg.*: what the databases say, and the commands that each package manager would be given."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sloth.payload.kernel.registry import find
from sloth.payload.kernel.resource import Args, ArgumentError, Failed
from sloth.payload.lib.command import Completed
from sloth.payload.lib.host import Host
from sloth.payload.modules.pkg import apk, apt, choice, dnf, dpkg, execution, install, locks, pacman, rpm, zypper
from sloth.payload.modules.pkg.database import Database, Installed, Offer, transaction
from sloth.payload.modules.pkg.names import Version, Wanted
from sloth.payload.modules.pkg.options import Options
from tests.support.calls import execute_call

STATUS = """Package: dpkg
Status: install ok installed
Architecture: amd64
Version: 1.21.22

Package: mawk
Status: install ok installed
Architecture: amd64
Multi-Arch: foreign
Version: 1.3.4-3.1
Provides: awk (= 1), other-awk

Package: gone
Status: deinstall ok config-files
Architecture: all
Version: 1

Package: half
Status: install ok half-configured
Architecture: all
Version: 2

Package: waits
Status: hold ok triggers-pending
Architecture: all
Version: 3

Package: libc6
Status: install ok installed
Architecture: i386
Version: 2.36-9
"""

APK = """C:Q1abc=
P:musl
V:1.2.4-r2
A:x86_64
p:so:libc.musl-x86_64.so.1=1

C:Q1def=
P:busybox
V:1.36.1-r5
A:x86_64
p:cmd:sh=1.36.1-r5 /bin/sh
F:bin
"""


class Bare(Host):
    """A host on which no command may run."""

    def run(self, argv: Any, *args: Any, **given: Any) -> Any:
        raise AssertionError(argv)


def manager(name: str, tmp_path: Path) -> Any:
    return choice.create(name, Bare(None, home=str(tmp_path)), root=str(tmp_path))


def test_dpkg_status(tmp_path: Path) -> None:
    place = tmp_path / "var/lib/dpkg/status"
    place.parent.mkdir(parents=True)
    place.write_text(STATUS)
    debian = manager("apt", tmp_path)
    debian.offers = lambda names, release="": {}
    seen = {name: debian.version(Wanted(name)) for name in ("mawk", "awk", "gone", "half", "waits", "none")}
    assert seen == {
        "mawk": "1.3.4-3.1", "awk": "mawk=1.3.4-3.1", "gone": None, "half": "2 half-configured", "waits": "3",
        "none": None,
    }  # fmt: skip
    assert debian.version(Wanted("libc6")) is None, "a foreign architecture's is not ours"
    assert debian.version(Wanted("libc6:i386")) == "2.36-9"
    assert debian.version(Wanted("mawk:native")) == "1.3.4-3.1"
    assert debian.present(["gone", "half", "lib*"], False) == {"half": "2 half-configured", "libc6:i386": "2.36-9"}
    assert debian.present(["gone"], True) == {"gone": "1 config-files"}
    marks = tmp_path / "var/lib/apt/extended_states"
    marks.parent.mkdir(parents=True)
    marks.write_text("Package: mawk\nArchitecture: i386\nAuto-Installed: 1\n")
    assert [debian.is_automatic(name) for name in ("mawk", "mawk:i386")] == [False, True]
    place.write_text("")
    assert debian.version(Wanted("mawk")) is None, "a file that differs is read again"


def test_the_other_databases(tmp_path: Path) -> None:
    found = apk.parse_installed(APK)
    assert found.packages["busybox"] == [Installed("1.36.1-r5", "x86_64")]
    assert found.provides["cmd:sh"] == ["busybox"]
    assert apk.parse_search("busybox-1.36.1-r6\nbusybox-extras-1.36.1-r6\n", ["busybox"]) == {
        "busybox": Offer("1.36.1-r6"),
    }  # fmt: skip
    assert rpm.parse_query("bash\t5.2-1\tx86_64\nfoo\t1:2-3\tnoarch\n").packages["foo"] == [
        Installed("1:2-3", "noarch")
    ]
    arch = pacman.parse_names(["bash-completion-2.11-3", "a-1:2.0-1", "ALPM_DB_VERSION"]).packages
    assert {name: arch[name] for name in arch} == {
        "bash-completion": [Installed("2.11-3")], "a": [Installed("1:2.0-1")],
    }  # fmt: skip
    assert pacman.parse_provides("%NAME%\nx\n\n%PROVIDES%\nsh\nlibz=1\n\n%DEPENDS%\ny\n") == ["sh", "libz"]
    assert pacman.parse_list("core bash 5.2-1 [installed]\nextra bash 5.1-1\n") == {
        "bash": Offer("5.2-1"),
    }  # fmt: skip
    policy = "awk:\n  Installed: (none)\n  Candidate: (none)\n  Version table:\nbash:\n  Installed: 5.1\n"
    policy += "  Candidate: 5.2\n  Version table:\n     5.2 500\n        500 file:/r ./ Packages\n *** 5.1 100\n"
    assert apt.parse_policy(policy) == {"awk": Offer(), "bash": Offer("5.2", ["5.2", "5.1"])}
    # What Ubuntu offers to some hosts first, as apt 2.6 prints it.
    phased = policy.replace("5.2 500\n", "5.2 500 (phased 10%)\n")
    assert apt.parse_policy(phased) == apt.parse_policy(policy)
    assert dnf.parse_offers("a 0:1-1 noarch\na 0:1-2 noarch\nb 2:1-1 i686\n") == {
        "a": Offer("1-2", ["1-2", "1-1"]), "a.noarch": Offer("1-2", ["1-2", "1-1"]),
        "b": Offer("2:1-1"), "b.i686": Offer("2:1-1"),
    }  # fmt: skip
    yum = "Available Packages\na.noarch      1-2    base\na-very-long-name.x86_64\n      2:3-4   updates\n"
    assert dnf.parse_list(yum)["a-very-long-name"].version == "2:3-4"
    update = '<update kind="package" name="one" edition="1.2-1" arch="noarch" edition-old="1.0-1">'
    assert zypper.parse_updates(update) == {"one": "1.2-1"}


@pytest.mark.parametrize(
    ("older", "newer"),
    [
        ("1.0-1", "1.0-2"), ("1.9", "1.10"), ("1.0~rc1-1", "1.0-1"), ("1.0", "1.0.1"), ("1.0-1", "1.0^git1-1"),
        ("9.0-1", "1:1.0-1"), ("1.0a", "1.0.1"), ("1.0", "1.0a"), ("1.0^git1", "1.0.1"), ("1.01", "1.2"),
    ],
)  # fmt: skip
def test_order_of_rpm_versions(older: str, newer: str) -> None:
    assert rpm.newer(newer, older)
    assert not rpm.newer(older, newer)
    assert not rpm.newer(older, older)


@pytest.mark.parametrize(
    ("older", "newer"),
    [
        ("1.0-1", "1.0-2"), ("1.9", "1.10"), ("1.0~rc1-1", "1.0-1"), ("1.0", "1.0.1"), ("9.0-1", "1:1.0-1"),
        ("1.0a", "1.0.1"), ("1.0", "1.0a"), ("1.0~~", "1.0~"), ("1.0", "1.0-0+b1"), ("0:1.0-1", "1.0+b-1"),
        ("1-2-3", "1-10-1"),
    ],
)  # fmt: skip
def test_order_of_dpkg_versions(older: str, newer: str) -> None:
    assert dpkg.newer(newer, older)
    assert not dpkg.newer(older, newer)
    assert not dpkg.newer(older, older)


@pytest.mark.parametrize(("one", "other"), [("1.0", "1.0-0"), ("0:1.0", "1.0"), ("1.00", "1.0"), ("1", "01")])
def test_dpkg_versions_that_are_equal(one: str, other: str) -> None:
    assert not dpkg.newer(one, other)
    assert not dpkg.newer(other, one)


def test_what_fits_a_wish() -> None:
    for wish in ("1.2", "1.2-3", "4:1.2-3", "4:1.2", "1.*"):
        assert rpm.fits("4:1.2-3", wish), wish
    for wish in ("1", "1.2-4", "5:1.2-3", "2*"):
        assert not rpm.fits("4:1.2-3", wish), wish
    wish = Version("any", lambda found: found != "x")
    assert wish == "1.0"
    assert "1.0" == wish  # noqa: SIM300
    assert wish != None  # noqa: E711
    assert wish != "x"


APT = (
    "apt-get -y -q -o Dpkg::Options::=--force-confdef -o Dpkg::Options::=--force-confold -o Dpkg::Use-Pty=0 "
    "-o DPkg::Lock::Timeout=9"
)
PACMAN = "--noconfirm --noprogressbar --color never"


@pytest.mark.parametrize(
    ("name", "given", "expected"),
    [
        ("apt", {}, f"{APT} install -- a b=1"),
        ("apt", {"install_recommends": False}, f"{APT} -o APT::Install-Recommends=no install -- a b=1"),
        ("apt", {"allow_downgrade": True, "default_release": "sid"},
         f"{APT} -t sid --allow-downgrades install -- a b=1"),
        ("dnf", {}, "dnf -y --setopt=exit_on_lock=1 install a b-1"),
        ("dnf", {"install_recommends": False},
         "dnf -y --setopt=exit_on_lock=1 --setopt=install_weak_deps=0 install a b-1"),
        ("yum", {}, "yum -y --setopt=exit_on_lock=1 install a b-1"),
        ("zypper", {}, "zypper --non-interactive install --auto-agree-with-licenses -- a b=1"),
        ("zypper", {"allow_downgrade": True, "install_recommends": True},
         "zypper --non-interactive install --auto-agree-with-licenses --recommends --oldpackage -- a b=1"),
        ("pacman", {}, f"pacman -S {PACMAN} -- a b=1"),
        ("apk", {}, "apk --no-progress --wait 9 add a b=1"),
    ],
)  # fmt: skip
def test_install_commands(tmp_path: Path, name: str, given: dict[str, Any], expected: str) -> None:
    commands = manager(name, tmp_path).install_commands([Wanted("a"), Wanted("b", "1", "", "1")], Options(9, **given))
    assert [" ".join(argv) for argv in commands] == [expected]


@pytest.mark.parametrize(
    ("name", "given", "expected"),
    [
        ("apt", {}, f"{APT} remove -- a"),
        ("apt", {"purge": True, "autoremove": True}, f"{APT} --auto-remove purge -- a"),
        ("dnf", {}, "dnf -y --setopt=exit_on_lock=1 --setopt=clean_requirements_on_remove=0 remove a"),
        ("zypper", {"autoremove": True}, "zypper --non-interactive remove --clean-deps -- a"),
        ("pacman", {"purge": True, "autoremove": True}, f"pacman -Rsn {PACMAN} -- a"),
        ("apk", {"purge": True}, "apk --no-progress --wait 9 del --purge a"),
    ],
)
def test_remove_commands(tmp_path: Path, name: str, given: dict[str, Any], expected: str) -> None:
    commands = manager(name, tmp_path).remove_commands(["a"], Options(9, **given))
    assert [" ".join(argv) for argv in commands] == [expected]


@pytest.mark.parametrize(
    ("verb", "given", "said"),
    [
        ("install", {}, "name or deb"),
        ("install", {"name": []}, "empty"),
        ("install", {"name": "--purge"}, "cannot be the name"),
        ("install", {"name": ["a=1", "a=2"]}, "twice"),
        ("install", {"name": "a=;b"}, "cannot be a version"),
        ("install", {"name": "a>=1*"}, "cannot be a version"),
        ("install", {"name": "a", "use": "pkgsrc"}, "must be one of"),
        ("remove", {"name": "a*=1"}, "pattern of names cannot have a version"),
        ("update", {"upgrade": "maybe"}, "upgrade must be"),
    ],
)
def test_arguments_that_are_refused(verb: str, given: dict[str, Any], said: str) -> None:
    with pytest.raises(ArgumentError, match=said):
        find("pkg." + verb).check(given)


def key(verb: str, **given: Any) -> str:
    cls = find("pkg." + verb)
    return str(cls(Args(cls.check(given)), Host(None)).key())


def test_keys() -> None:
    assert key("install", name="nginx") == "pkg:install:nginx"
    assert key("install", package="nginx=1.2") == "pkg:install:nginx"
    assert key("install", packages=["b", "a"]) == key("install", name="a, b") == "pkg:install:a,b"
    long = key("install", name=[f"package{number}" for number in range(60)])
    assert len(long) < 230
    assert long != key("install", name=[f"package{number}" for number in range(61)])


@pytest.mark.parametrize(
    ("name", "text", "message", "hint"),
    [
        ("apt", "E: dpkg was interrupted, you must manually run 'dpkg --configure -a' to correct the problem.",
         "dpkg was interrupted", "dpkg --configure -a"),
        ("apt", "E: Unable to locate package nope", "knows no package nope", "pkg.update"),
        ("dnf", "Error: Unable to find a match: nope", "knows no package nope", "pkg.update"),
        ("zypper", "No provider of 'nope' found.", "knows no package nope", "pkg.update"),
        ("pacman", "error: target not found: nope", "knows no package nope", "pkg.update"),
        ("apk", "  nope (no such package):\n    required by: world[nope]", "knows no package nope", "pkg.update"),
    ],
)  # fmt: skip
def test_errors_say_what_to_do(tmp_path: Path, name: str, text: str, message: str, hint: str) -> None:
    one = manager(name, tmp_path)
    one.names_like = lambda prefix: []
    error = execution.explain(one, Completed(1, b"", b"", "", False), text)
    assert message in error.message
    assert hint in error.hint


HELD = "E: Unable to correct problems, you have held broken packages.\n"
UNMET = "The following packages have unmet dependencies:\n"
FAILURES = (
    (
        "apt",
        UNMET + """ top : Depends: dep but it is not going to be installed
 dep : Depends: other but it is not going to be installed
       Depends: python3-dbus but it is not installable
""" + HELD,
        "dep: Depends: python3-dbus but it is not installable",
    ),
    (
        "apt",
        UNMET + " a : Depends: b (= 2) but 1 is to be installed\n" + HELD,
        "a: Depends: b (= 2) but 1 is to be installed",
    ),
    (
        "apt",
        UNMET + """ a : Depends: b but it is not installable or
              c but it is not installable
""" + HELD,
        "a: Depends: b but it is not installable or c but it is not installable",
    ),
    (
        "apt",
        """Unsatisfied dependencies:
 a : Depends: b but it is not installable
Error: Unable to satisfy dependencies. Reached two conflicting assignments:
""",
        "a: Depends: b but it is not installable",
    ),
    (
        "apt",
        """dpkg: error processing package a (--configure):
 installed a package post-installation script subprocess returned error exit status 3
E: Sub-process /usr/bin/dpkg returned an error code (1)
""",
        "a: installed a package post-installation script subprocess returned error exit status 3",
    ),
    (
        "apt",
        """dpkg: error processing archive /var/a.deb (--unpack):
 trying to overwrite '/x', which is also in package b
E: Sub-process /usr/bin/dpkg returned an error code (1)
""",
        "/var/a.deb: trying to overwrite '/x', which is also in package b",
    ),
    (
        "apt",
        """Package alt is a virtual package provided by:
  alt-b 1.0
  alt-a 1.0
You should explicitly select one to install.

E: Package 'alt' has no installation candidate
""",
        "alt is provided by several packages, name one of them: alt-a, alt-b",
    ),
    (
        "apt",
        """E: Malformed entry 1 in list file /etc/apt/sources.list.d/no.list (Suite)
E: The list of sources could not be read.
""",
        "Malformed entry 1 in list file /etc/apt/sources.list.d/no.list (Suite)",
    ),
    (
        "dnf",
        """Error:
 Problem: conflicting requests
  - nothing provides x needed by a-1-1.noarch
(try to add '--skip-broken' to skip uninstallable packages)
""",
        "nothing provides x needed by a-1-1.noarch",
    ),
    (
        "dnf",
        """Error:
 Problem: package a requires b, but none of the providers can be installed
  - conflicting requests
  - nothing provides x needed by b
""",
        "nothing provides x needed by b",
    ),
    (
        "pacman",
        """error: failed to prepare transaction (could not satisfy dependencies)
:: unable to satisfy dependency 'x' required by a
""",
        "unable to satisfy dependency 'x' required by a",
    ),
)  # fmt: skip


@pytest.mark.parametrize(("name", "text", "message"), FAILURES)
def test_the_headline_is_the_cause(tmp_path: Path, name: str, text: str, message: str) -> None:
    one = manager(name, tmp_path)
    assert execution.explain(one, Completed(1, b"", b"", "", False), text).message == f"{one.tool}: {message}"


@pytest.mark.parametrize(
    ("name", "good", "bad"),
    [
        ("apt", "g++ libc6:i386 lib_x 0ad a:any", "a/b a=b a~ ~a ?a a^ a* a( /usr/bin/a a: -a a:b:c"),
        ("dnf", "a.noarch perl(A::B) libz.so.1()(64bit) /usr/bin/a c++", "a.rpm /a/ a* @a a>1 a=1 a:b -a (a) a/b"),
        ("zypper", "a.noarch perl(A::B) /usr/bin/a", "patch:a a/b a.rpm a>1 !a ~a -a +a /a/"),
        ("pacman", "a gtk2+ lib32-a", "a/b a>1 a=1 a:b -a /usr/bin/a a*"),
        ("apk", "a cmd:sh so:libz.so.1 /bin/sh py3.11:a", "a@edge a~1 a>1 a=1 !a -a .a a* a:b:c"),
    ],
)
def test_names_that_a_package_manager_takes(tmp_path: Path, name: str, good: str, bad: str) -> None:
    one = manager(name, tmp_path)
    for word in good.split():
        one.check_name(word)
    for word in bad.split():
        with pytest.raises(ArgumentError):
            one.check_name(word)


def test_an_architecture_of_the_host_itself(tmp_path: Path) -> None:
    place = tmp_path / "var/lib/dpkg/status"
    place.parent.mkdir(parents=True)
    place.write_text(STATUS)
    debian = manager("apt", tmp_path)
    for end in ("", ":amd64", ":native", ":any", ":all"):
        assert debian.canonical("gone" + end) == "gone"
        assert debian.version(Wanted("waits" + end)) == "3", "an architecture-independent package is the host's, too"
        assert debian.version(Wanted("mawk" + end)) == "1.3.4-3.1"
        assert debian.present(["mawk" + end], False) == {"mawk": "1.3.4-3.1"}
    assert debian.canonical("libc6:i386") == "libc6:i386"


def test_without_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = manager("apt", tmp_path)
    one.offers = lambda names, release="": dict.fromkeys(names, Offer("1"))
    one.host.uid = 1000
    monkeypatch.setattr(install, "choose", lambda host, use=None: one)
    with pytest.raises(Failed, match="only root") as caught:
        execute_call("pkg.install", on=one.host, name="a")
    assert "become" in caught.value.hint


def test_the_holder_of_a_lock_is_told(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    path.write_text("")
    assert locks.holder(str(path)) is None
    assert locks.holder(str(tmp_path / "none")) is None
    text = "import fcntl,sys;f=open(sys.argv[1],'w');fcntl.lockf(f,fcntl.LOCK_EX);print(1,flush=True);sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", text, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as child:
        assert child.stdout is not None
        child.stdout.readline()
        assert locks.holder(str(path)) == child.pid
        assert f"pid {child.pid}" in locks.process(child.pid)
        child.communicate()
    assert locks.holder(str(path)) is None


def test_a_transaction_is_told() -> None:
    before = Database({"a": [Installed("1", "all")], "b": [Installed("1", "all")]})
    after = Database({"a": [Installed("2", "all")], "c": [Installed("1", "all")]})
    assert transaction(before, after) == ["a 1 -> 2", "b 1 -> gone", "c 1"]


PARAGRAPHS = st.lists(
    st.tuples(
        st.sampled_from(["a", "ab", "b", "lib-a", "dpkg"]),
        st.sampled_from(["installed", "config-files", "not-installed", "half-configured"]),
        st.sampled_from(["", "b, v (= 1)", "a"]),
        st.booleans(),
    ),
    max_size=8,
)


@given(PARAGRAPHS)
def test_a_package_read_alone_is_as_it_is_among_all(paragraphs: list[tuple[str, str, str, bool]]) -> None:
    text = "\n\n".join(
        ("Essential: yes\n" if first else "")
        + f"Package: {name}\nStatus: install ok {state}\nArchitecture: amd64\nVersion: {number}\n"
        + (f"Provides: {provides}\n" if provides else "")
        + "Description: x\n Package: a\n .\n Version: 9"
        for number, (name, state, provides, first) in enumerate(paragraphs)
    )
    alone, whole = dpkg.StatusFile(text.encode()), dpkg.StatusFile(text.encode())
    names = list(whole)
    assert len(whole) == len(names) == len(set(names))
    for name in ("a", "ab", "b", "lib-a", "dpkg", "v", ""):
        wanted = [
            Installed(str(number), "amd64", "" if state == "installed" else state)
            for number, (its, state, *_) in enumerate(paragraphs)
            if its == name and state != "not-installed"
        ]
        assert alone[name] == whole[name] == wanted
        assert (name in alone) == (name in whole) == (name in names) == bool(wanted)
    provided = [name for name, state, provides, _ in paragraphs if state == "installed" and provides == "b, v (= 1)"]
    assert whole.provides().get("v", []) == alone.provides().get("v", []) == provided


def test_marks_and_refusals_are_read() -> None:
    marks = [("a", "amd64", 1), ("b", "amd64", 0), ("lib", "amd64", 0), ("lib", "i386", 1), ("other", "i386", 0)]
    text = "\n".join(f"Package: {name}\nArchitecture: {arch}\nAuto-Installed: {on}\n" for name, arch, on in marks)
    marked = dpkg.Automatic(text.encode())
    assert [name for name in ("a", "b", "c", "") if marked.has(name, "amd64")] == ["a"]
    # As `apt-mark showauto` shows: a mark is of one architecture.
    assert [marked.has("lib", arch) for arch in ("amd64", "i386", "")] == [False, True, True]
    refusal = """error: Failed dependencies:
\tlibrary is needed by (installed) two-3.0-1.noarch
\tlibz.so.1()(64bit) is needed by (installed) perl-DBI-1.6-2.x86_64
"""
    assert rpm.parse_needed(refusal) == {"two", "perl-DBI"}


APK_DEL = """(1/3) Purging nginx (1.24.0-r7)
(2/3) Purging nginx.pre-install (0)
(3/3) Purging pcre2 (10.42-r1)
OK: 8 MiB in 15 packages
"""


def test_apk_marks_and_takes_along(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What `apk del --simulate` printed on Alpine 3.18: what nothing in the world needs any more goes, too."""
    backend = manager("apk", tmp_path)
    monkeypatch.setattr(backend, "query", lambda argv, must_succeed=False: APK_DEL)
    assert set(backend.removed_with(["nginx"])) >= {"nginx", "pcre2"}
    backend.root = str(tmp_path)
    (tmp_path / "etc/apk").mkdir(parents=True)
    (tmp_path / "etc/apk/world").write_text("alpine-base\nnginx=1.24.0-r7\ncurl@edge\n")
    assert [backend.is_automatic(name) for name in ("nginx", "curl", "pcre2")] == [False, False, True]
    assert [" ".join(argv) for argv in backend.mark_commands(["pcre2"], False, Options(9))] == [
        "apk --no-progress --wait 9 add pcre2"
    ]
