"""cron, sysctl, http, git and archive where no fleet is needed: their edges, on this machine and in a directory."""

from __future__ import annotations

import functools
import hashlib
import http.server
import io
import os
import shutil
import subprocess
import sys
import tarfile
import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sloth.payload.kernel.content import Content
from sloth.payload.kernel.converge import Outcome, execute
from sloth.payload.kernel.record import Asset
from sloth.payload.kernel.resource import Args, ArgumentError, Failed
from sloth.payload.lib.host import Host
from sloth.payload.modules import cron, sysctl
from sloth.payload.session.channel import Channel
from sloth.payload.state.store import Store
from tests.support.calls import execute_call
from tests.support.paths import ROOT


class Local(Host):
    """This machine, with a home of the test's own and contents that are given at once."""

    def __init__(self, home: Path) -> None:
        reader, writer = os.pipe()
        super().__init__(Channel(reader, writer), home=str(home))
        self.given: list[bytes] = []

    def asset(self, call: Any, index: int) -> Content:
        return Content.of_bytes(self.given[index])


@pytest.fixture
def host(tmp_path: Path) -> Local:
    (tmp_path / "home").mkdir()
    return Local(tmp_path / "home")


def call(host: Local, module: str, /, check: bool = False, assets: tuple[Any, ...] = (), **args: Any) -> Outcome:
    return execute_call(module, on=host, check=check, assets=[Asset.read(asset) for asset in assets], **args)


def job(host: Local, path: Path, before: bytes, **args: Any) -> bytes:
    path.write_bytes(before)
    call(host, "cron.job", cron_file=str(path), user="root", **args)
    after = path.read_bytes()
    assert call(host, "cron.job", cron_file=str(path), user="root", **args).status == "unchanged"
    return after


def test_a_job_is_added_changed_and_removed(host: Local, tmp_path: Path) -> None:
    rest = b"# caf\xe9\nMAILTO=x\n0 0 * * * root other"
    made = job(host, tmp_path / "c", rest, name="n", job="true", minute=5)
    assert made == rest + b"\n#sloth: n\n5 * * * * root true\n"
    assert job(host, tmp_path / "c", made, name="n", job="false", special_time="daily") == (
        rest + b"\n#sloth: n\n@daily root false\n"
    )
    assert job(host, tmp_path / "c", made, name="n", state="absent") == rest + b"\n"
    taken = job(host, tmp_path / "c", b"#Ansible: n\n1 1 * * * root old\n", name="n", job="new", disabled=True)
    assert taken == b"#Ansible: n\n#* * * * * root new\n"
    assert job(host, tmp_path / "c", b"x\n", name="PATH", job="/bin", env=True) == b'PATH="/bin"\nx\n'


@pytest.mark.parametrize(
    "after",
    [b"", b"\n0 1 * * * root other\n", b"# a comment of five words\n", b"#sloth: m\n0 1 * * * root other\n",
     b"PATH=/bin\n0 1 * * * root other\n", b"# 3 times a day it runs\n"],
)  # fmt: skip
def test_a_mark_without_its_job_takes_no_other_line(host: Local, tmp_path: Path, after: bytes) -> None:
    before = b"#sloth: n\n" + after
    job_line = b"* * * * * root true\n"
    assert job(host, tmp_path / "c", before, name="n", job="true") == b"#sloth: n\n" + job_line + after
    assert job(host, tmp_path / "c", before, name="n", state="absent") == after


@pytest.mark.parametrize(
    "line", ["#0 1 * * * root old", "@daily root old", "0 1 1-5 jan,feb mon-fri root old", "0\t1 * * *\troot old"]
)
def test_a_job_is_recognized_in_every_form(host: Local, tmp_path: Path, line: str) -> None:
    before = f"#sloth: n\n{line}\n#sloth: m\n1 1 * * * root m\n#Ansible: n\n2 2 * * * root twice\n".encode()
    rest = b"#sloth: m\n1 1 * * * root m\n"
    assert job(host, tmp_path / "c", before, name="n", state="absent") == rest
    assert job(host, tmp_path / "c", before, name="n", job="x") == b"#sloth: n\n* * * * * root x\n" + rest


@pytest.mark.parametrize(
    ("value", "line"),
    [("a b", 'V="a b"'), ('say "hi"', "V='say \"hi\"'"), ("it's", 'V="it\'s"'), ("", 'V=""'),
     ("it's \"so\"", "V=it's \"so\"")],
)  # fmt: skip
def test_a_variable_is_quoted_as_cron_reads_it(host: Local, tmp_path: Path, value: str, line: str) -> None:
    others = b"V=old\nW=1\n 'V' = older\n* * * * * root x\n"
    after = job(host, tmp_path / "c", others, name="V", job=value, env=True)
    assert after.decode() == f"{line}\nW=1\n{line}\n* * * * * root x\n"
    assert job(host, tmp_path / "c", b"", name="V", job=value, env=True).decode() == line + "\n"
    assert job(host, tmp_path / "c", after, name="V", env=True, state="absent") == b"W=1\n* * * * * root x\n"


def test_a_value_that_cron_cannot_read_is_refused(host: Local, tmp_path: Path) -> None:
    for value in ('"it\'s"', 'it\'s "so" '):
        with pytest.raises(ArgumentError, match="cannot represent"):
            call(host, "cron.job", cron_file=str(tmp_path / "c"), name="V", job=value, env=True)
    with pytest.raises(ArgumentError, match="file name or an absolute path"):
        call(host, "cron.job", cron_file="a/b", name="n", job="x")


@pytest.fixture
def cron_d(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory that stands for /etc/cron.d."""
    directory = tmp_path / "cron.d"
    directory.mkdir()
    monkeypatch.setattr(cron, "DIRECTORY", str(directory))
    return directory


@pytest.mark.parametrize(
    ("installed", "name", "is_read"),
    [("cron", "example.com", False), ("cron", "ok_1-A", True), ("cron", "x~", False), ("crond", "example.com", True),
     ("crond", "x~", False), ("crond", "x.rpmsave", False), ("", "example.com", True)],
)  # fmt: skip
def test_a_name_that_cron_never_reads_is_refused(
    host: Local, cron_d: Path, monkeypatch: pytest.MonkeyPatch, installed: str, name: str, is_read: bool
) -> None:
    monkeypatch.setattr(cron, "_is_installed", lambda host, daemon: daemon == installed)
    args: dict[str, Any] = {"cron_file": name, "name": "n", "job": "true", "user": "root"}
    if is_read:
        assert call(host, "cron.job", **args).status == "changed"
        assert os.listdir(cron_d) == [name]
        return
    with pytest.raises(Failed, match="ignores") as error:
        call(host, "cron.job", **args)
    assert "cron_file" in error.value.hint
    assert os.listdir(cron_d) == []
    (cron_d / name).write_text("#sloth: n\n* * * * * root x\n")
    assert call(host, "cron.job", cron_file=name, name="n", state="absent", user="root").status == "changed"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root owns files of cron")
def test_what_cron_would_ignore_a_file_for_is_repaired(host: Local, cron_d: Path) -> None:
    args: dict[str, Any] = {"cron_file": "n", "name": "n", "job": "true", "user": "root"}
    assert call(host, "cron.job", **args).status == "changed"
    assert call(host, "cron.job", **args).status == "unchanged"
    (cron_d / "n").chmod(0o666)
    os.chown(cron_d / "n", 1, 1)
    assert call(host, "cron.job", **args).status == "changed"
    info = (cron_d / "n").stat()
    assert (info.st_mode & 0o777, info.st_uid) == (0o644, 0)
    assert call(host, "cron.job", **dict(args, user="no-such-user")).status == "changed"
    assert "there is no user no-such-user" in host.warnings[0]


@pytest.mark.parametrize(
    "args", [{"name": "n"}, {"name": "n", "job": "a\nb"}, {"name": "n", "job": "x", "minute": "1 2"},
             {"name": "n", "job": "x", "minute": 1, "special_time": "daily"}],
)  # fmt: skip
def test_jobs_that_cannot_be_are_refused(host: Local, args: dict[str, Any]) -> None:
    with pytest.raises(ArgumentError):
        call(host, "cron.job", **args)


def test_a_kernel_setting_s_line_is_edited_in_place(host: Local, tmp_path: Path) -> None:
    path = tmp_path / "s.conf"
    path.write_bytes(b"# x\nkernel.panic=1\nnet/ipv4/ip_forward = 0\n; y\nkernel/panic = 2\n")
    args: dict[str, Any] = {"name": "kernel.panic", "sysctl_file": str(path), "sysctl_set": False}
    assert call(host, "sysctl.set", value=10, **args).status == "changed"
    assert path.read_bytes() == b"# x\nkernel.panic = 10\nnet/ipv4/ip_forward = 0\n; y\n"
    assert call(host, "sysctl.set", value="10", **args).status == "unchanged"
    call(host, "sysctl.set", state="absent", **args)
    assert path.read_bytes() == b"# x\nnet/ipv4/ip_forward = 0\n; y\n"


@pytest.mark.parametrize(
    ("given", "stored", "is_same"),
    [
        ("8080,9091,9090", "8080,9090-9091", True),
        ("1-3,2-5,7", "1-5,7", True),
        ("8080", "8081", False),
        ("0x1", "1", True),
        ("01", "1", True),
        ("010", "8", True),
        ("-0x10", "-16", True),
        ("08", "8", True),
        ("250 32000 100 128", "250\t32000\t100\t128", True),
        ("4096 0x20000 4194304", "4096 131072 4194304", True),
        ("3", "3 4 1 7", True),
        ("3 4 1 7", "3", False),
        ("a", "a b", False),
        ("cubic", "reno", False),
        ("", "", True),
        ("1", "", False),
    ],
)
def test_values_are_compared_as_the_kernel_reads_them(given: str, stored: str, is_same: bool) -> None:
    assert sysctl.is_same_value(given, " ".join(stored.split())) is is_same


class Kernel(sysctl.Set):
    """A parameter whose live value is in a file of the test's own; `stores` is what the kernel makes of a value."""

    live = ""
    stores = staticmethod(lambda value: value)

    def _read_live(self) -> str:
        return self.stores(sysctl.Set._read_live(self))


def test_a_value_that_the_kernel_writes_otherwise_settles(host: Local, tmp_path: Path) -> None:
    live, path = tmp_path / "live", tmp_path / "s.conf"
    live.write_text("\n")
    store = Store(None)

    def run(stores: Any) -> Outcome:
        kernel = type("Kernel", (Kernel,), {"live": str(live), "stores": staticmethod(stores)})
        arguments = {"name": "net.x", "value": "8080,9091,9090", "sysctl_file": str(path)}
        return execute(kernel(Args(kernel.check(arguments)), host), store)

    with pytest.raises(Failed, match=r"stored '7'.*instead of '8080,9091,9090'"):
        run(lambda value: "7")
    joined = {"8080,9091,9090": "8080,9090-9091"}
    assert run(lambda value: joined.get(value, value)).status == "changed"
    assert run(lambda value: joined.get(value, value)).status == "unchanged"
    assert path.read_text() == "net.x = 8080,9091,9090\n"


PARAMETERS = [
    ("net.ipv4.ip_local_reserved_ports", "8080,9091,9090", "8080,9090-9091"),
    ("net.ipv4.ip_local_reserved_ports", "", ""),
    ("net.ipv4.ip_forward", "0x1", "1"),
    ("net/ipv4/ip_forward", "00", "0"),
    ("net.ipv4.ip_default_ttl", "0100", "64"),
    ("net.ipv4.conf.lo.rp_filter", "1", "1"),
    ("net.ipv4.ip_local_port_range", "32000\t60000", "32000 60000"),
    ("net.ipv4.tcp_rmem", "4096 0x20000 6291456", "4096 131072 6291456"),
]


@pytest.mark.skipif(
    os.geteuid() != 0 or subprocess.run(["unshare", "-n", "true"], capture_output=True).returncode != 0,
    reason="needs a network of its own",
)
def test_the_kernel_itself_takes_and_keeps_values(tmp_path: Path) -> None:
    script = f"""
from tests.support.calls import execute_call
for name, value, stored in {PARAMETERS!r}:
    done = [execute_call("sysctl.set", name=name, value=value, sysctl_file={str(tmp_path / "s.conf")!r}) for _ in "12"]
    assert [str(one.status) for one in done[1:]] == ["unchanged"], (name, value)
    assert done[1].values["value"] == stored, (name, done[1].values)
"""
    done = subprocess.run(["unshare", "-n", sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def mount(host: Local, fstab: Path, module: str = "mount.present", **args: Any) -> str:
    given = {"fstype": "ext4", "state": "configured"} if module == "mount.present" else {}
    outcome = call(host, module, fstab=str(fstab), **dict(given, **args))
    assert call(host, module, fstab=str(fstab), **dict(given, **args)).status == "unchanged"
    return str(outcome.status)


def test_swap_areas_are_entries_of_their_own(host: Local, tmp_path: Path) -> None:
    fstab = tmp_path / "fstab"
    fstab.write_text("# x\n/dev/sda1 / ext4 defaults 0 1\n/dev/sdy9 none swap sw 0 0\n")
    for src, opts in (("/dev/sdz1", "sw"), ("/srv/swap file", "pri=5"), ("/dev/sdy9", "discard")):
        assert mount(host, fstab, path="none", src=src, fstype="swap", opts=opts) == "changed"
    assert fstab.read_text() == (
        "# x\n/dev/sda1 / ext4 defaults 0 1\n/dev/sdy9 none swap discard 0 0\n/dev/sdz1 none swap sw 0 0\n"
        "/srv/swap\\040file none swap pri=5 0 0\n"
    )
    assert mount(host, fstab, "mount.absent", path="swap", src="/dev/sdz1") == "changed"
    assert mount(host, fstab, path="none", src="/dev/sdq", fstype="swap") == "changed"
    assert "sdz1" not in fstab.read_text()
    assert fstab.read_text().count(" swap ") == 3


@pytest.mark.parametrize(
    ("module", "args", "said"),
    [
        ("mount.present", {"path": "none", "src": "/dev/x", "fstype": "ext4"}, "a swap area has path"),
        ("mount.present", {"path": "/x", "src": "/dev/x", "fstype": "swap"}, "a swap area has path"),
        ("mount.present", {"path": "x", "src": "/dev/x", "fstype": "ext4"}, "path must be absolute"),
        ("mount.absent", {"path": "none"}, "needs src"),
    ],
)
def test_mounts_that_cannot_be_are_refused(host: Local, module: str, args: dict[str, Any], said: str) -> None:
    with pytest.raises(ArgumentError, match=said):
        call(host, module, **args)


def test_an_entry_is_found_through_a_link(host: Local, tmp_path: Path) -> None:
    fstab = tmp_path / "fstab"
    (tmp_path / "real/m").mkdir(parents=True)
    (tmp_path / "link").symlink_to("real")
    fstab.write_text(f"/dev/a {tmp_path}/link/m ext4 defaults 0 0\n")
    assert mount(host, fstab, path=f"{tmp_path}/real/m", src="/dev/b") == "changed"
    assert fstab.read_text() == f"/dev/b {tmp_path}/real/m ext4 defaults 0 0\n"
    assert mount(host, fstab, path=f"{tmp_path}/link/m", src="/dev/c") == "changed"
    assert fstab.read_text() == f"/dev/c {tmp_path}/link/m ext4 defaults 0 0\n"


class Server(http.server.SimpleHTTPRequestHandler):
    """Serves a directory; /moved leads to another server; what was asked for, and with which headers, is kept."""

    asked: list[tuple[str, dict[str, str]]] = []
    other = ""

    def do_GET(self) -> None:
        self.asked.append((self.path, dict(self.headers)))
        if self.path == "/moved":
            self.send_response(302)
            self.send_header("Location", self.other + "/file")
            self.end_headers()
        elif self.path == "/short":
            self.send_response(200)
            self.send_header("Content-Length", "100")
            self.end_headers()
            self.wfile.write(b"only this")
        elif self.path.startswith("/status/"):
            self.send_response(int(self.path.rpartition("/")[2]))
            self.send_header("Location", "ftp://127.0.0.1:9/file")
            self.end_headers()
        elif self.path == "/garbage":
            self.wfile.write(b"\x1b[2Jgarbage\r\n\r\n")
            self.close_connection = True
        else:
            super().do_GET()

    def log_message(self, *args: Any) -> None:
        pass


@pytest.fixture
def web(tmp_path: Path) -> Iterator[str]:
    served = tmp_path / "served"
    served.mkdir()
    (served / "file").write_bytes(b"content\n")
    Server.asked = []
    servers = [
        http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Server, directory=str(served)))
        for _ in range(2)
    ]
    for server in servers:
        threading.Thread(target=server.serve_forever, daemon=True).start()
    Server.other = f"http://localhost:{servers[1].server_port}"
    yield f"http://127.0.0.1:{servers[0].server_port}"
    for server in servers:
        server.shutdown()
        server.server_close()


def test_a_download_with_a_checksum_asks_nobody_twice(host: Local, web: str, tmp_path: Path) -> None:
    digest = hashlib.sha256(b"content\n").hexdigest()
    args = {"url": web + "/file", "dest": str(tmp_path / "got"), "checksum": "sha256:" + digest, "mode": "0600"}
    assert call(host, "http.download", **args).status == "changed"
    asked = len(Server.asked)
    assert call(host, "http.download", **args).status == "unchanged"
    assert len(Server.asked) == asked
    (tmp_path / "got").write_text("spoiled")
    assert call(host, "http.download", **args).status == "changed"
    with pytest.raises(Failed, match="the download's md5 is"):
        call(host, "http.download", url=web + "/file", dest=str(tmp_path / "no"), checksum="md5:" + "0" * 32)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["got", "home", "served"]


def test_a_download_without_one_follows_the_server(host: Local, web: str, tmp_path: Path) -> None:
    args = {"url": web + "/file", "dest": str(tmp_path) + "/", "timeout": 5}
    assert call(host, "http.download", **args).status == "changed"
    assert call(host, "http.download", **args).status == "unchanged"
    (tmp_path / "served/file").write_bytes(b"newer\n")
    os.utime(tmp_path / "served/file", (2e9, 2e9))
    assert call(host, "http.download", **args).status == "changed"
    assert (tmp_path / "file").read_bytes() == b"newer\n"


def test_a_broken_download_leaves_nothing(host: Local, web: str, tmp_path: Path) -> None:
    for path, said in (("/short", "was interrupted"), ("/gone", "answered 404")):
        with pytest.raises(Failed, match=said):
            call(host, "http.download", url=web + path, dest=str(tmp_path / "got"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["home", "served"]


@pytest.mark.parametrize("code", [202, 203, 204, 206, 302])
def test_an_answer_without_the_whole_content_replaces_nothing(host: Local, web: str, tmp_path: Path, code: int) -> None:
    (tmp_path / "got").write_text("before")
    with pytest.raises(Failed, match=f"answered {code} .*" + ("not of HTTP" if code == 302 else "")):
        call(host, "http.download", url=f"{web}/status/{code}", dest=str(tmp_path / "got"), force=True)
    assert (tmp_path / "got").read_text() == "before"


def test_checksums_as_they_are_copied_and_published(host: Local, web: str, tmp_path: Path) -> None:
    digest = hashlib.sha256(b"content\n").hexdigest()
    (tmp_path / "served/sums").write_bytes(
        b"\xef\xbb\xbf" + digest.encode() + b"  file\r\n" + b"0" * 64 + b"  other\r\n"
    )
    for number, checksum in enumerate((f" {digest}\n", f"\u200b{digest.upper()}", web + "/sums")):
        args = {"url": web + "/file", "dest": str(tmp_path / f"got{number}"), "checksum": "sha256:" + checksum}
        for status in ("changed", "unchanged"):
            assert call(host, "http.download", **args).status == status
    with pytest.raises(ArgumentError, match="not a valid sha256"):
        call(host, "http.download", **{**args, "checksum": f"sha256:{digest[1:]} "})


def test_a_file_that_was_tampered_with_is_no_longer_current(host: Local, web: str, tmp_path: Path) -> None:
    got = tmp_path / "got"
    args = {"url": web + "/file", "dest": str(got), "mode": "0600"}
    call(host, "http.download", **args)
    info = got.stat()
    got.write_bytes(b"CONTENT\n")
    os.utime(got, ns=(info.st_atime_ns, info.st_mtime_ns))
    assert call(host, "http.download", **args).status == "changed"
    assert got.read_bytes() == b"content\n"
    Server.asked = []
    assert call(host, "http.download", **args).status == "unchanged"
    assert "If-Modified-Since" in Server.asked[0][1]
    Server.asked = []
    assert call(host, "http.download", **{**args, "url": web + "/./file"}).status == "unchanged"
    assert "If-Modified-Since" not in Server.asked[0][1], "it is not known what that URL gave"


def test_a_file_from_elsewhere_is_adopted_when_it_is_the_same(host: Local, web: str, tmp_path: Path) -> None:
    (tmp_path / "got").write_bytes(b"content\n")
    for sent in (False, True):
        Server.asked = []
        assert call(host, "http.download", url=web + "/file", dest=str(tmp_path / "got")).status == "unchanged"
        assert ("If-Modified-Since" in Server.asked[0][1]) == sent


def test_urls_as_people_write_them(host: Local, web: str, tmp_path: Path) -> None:
    (tmp_path / "served/a ü?.txt").write_bytes(b"1")
    (tmp_path / "to").mkdir()
    for url, name in ((web + "/a ü%3f.txt?x=ä b#part", "a ü%3f.txt"), (web + "/file#part", "file")):
        for status in ("changed", "unchanged"):
            assert call(host, "http.download", url=url, dest=f"{tmp_path}/to/").status == status
        assert (tmp_path / "to" / name).exists()
    assert {path for path, _ in Server.asked} == {"/a%20%C3%BC%3f.txt?x=%C3%A4%20b", "/file"}
    for url in (web + "/a\nb", "ftp://x/y", web + "/\x1b"):
        with pytest.raises(ArgumentError, match="url"):
            call(host, "http.download", url=url, dest=str(tmp_path / "x"))
    with pytest.raises(ArgumentError, match="control character"):
        call(host, "http.download", url=web, dest=str(tmp_path / "x"), headers={"X": "a\nb"})


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("/garbage", "did not answer with valid HTTP"),
        ("http://[::1/x", "is not a valid URL"),
        ("http://127.0.0.1:port/x", "cannot be reached|valid HTTP"),
        ("http://127.0.0.1:99999/x", "cannot be reached|valid HTTP"),
        ("http://u:geheim@127.0.0.1:1/x", r"http://\*\*\*@127.0.0.1:1/x cannot be reached: Connection refused"),
        (f"http://{'ü' * 80}.example/x", "invalid host name"),
    ],
)
def test_a_server_that_cannot_be_talked_to_is_an_error_that_says_so(
    host: Local, web: str, tmp_path: Path, url: str, said: str
) -> None:
    with pytest.raises(Failed, match=said) as caught:
        call(host, "http.download", url=web + url if url[0] == "/" else url, dest=str(tmp_path / "x"))
    assert "\x1b" not in caught.value.message
    assert not (tmp_path / "x").exists()


def test_public_reports_of_downloads(host: Local, web: str, tmp_path: Path) -> None:
    digest = hashlib.sha256(b"content\n").hexdigest()
    (tmp_path / "served/sums").write_text(f"{digest}  ./file\n{'0' * 64}  other\n")
    args: dict[str, Any] = {"url": web + "/file", "dest": str(tmp_path / "got")}
    # ansible#61369: a check with a checksum that is fetched
    assert call(host, "http.download", check=True, checksum=f"sha256:{web}/sums", **args).status == "changed"
    call(host, "http.download", checksum=f"sha256:{digest}", **args)
    # ansible#29614: the mode changes though the checksum matches
    assert call(host, "http.download", checksum=f"sha256:{digest}", mode="0755", **args).status == "changed"
    assert (tmp_path / "got").stat().st_mode & 0o7777 == 0o755
    # ansible#19548: dest is a directory, and nothing is downloaded twice
    Server.asked = []
    done = call(host, "http.download", checksum=f"sha256:{digest}", url=web + "/file", dest=f"{tmp_path}/served/")
    assert (done.status, Server.asked) == ("unchanged", [])


def test_a_password_stays_with_its_host(host: Local, web: str, tmp_path: Path) -> None:
    headers = {"X-Token": "t0ken"}
    call(
        host,
        "http.download",
        url=web + "/moved",
        dest=str(tmp_path / "got"),
        username="u",
        password="p",
        headers=headers,
    )
    first, second = Server.asked[:2]
    assert "Authorization" in first[1]
    assert "X-Token" in first[1]
    assert second[0] == "/file"
    assert not {"Authorization", "X-Token"} & set(second[1])


def git(directory: Path, *words: str) -> str:
    identity = ["-c", "user.name=n", "-c", "user.email=a@b"]
    done = subprocess.run(["git", *identity, *words], cwd=directory, check=True, capture_output=True, text=True)
    return done.stdout.strip()


@pytest.fixture
def origin(tmp_path: Path) -> Path:
    if shutil.which("git") is None:
        pytest.skip("git is not installed")
    place = tmp_path / "origin"
    place.mkdir()
    git(place, "init", "-q", "-b", "main")
    for number in ("one", "two"):
        (place / "file").write_text(number)
        git(place, "add", "file")
        git(place, "commit", "-q", "-m", number)
        git(place, "tag", "-a", f"v-{number}", "-m", number)
    return place


def test_a_branch_is_followed_and_a_tag_and_a_commit_are_kept(host: Local, origin: Path, tmp_path: Path) -> None:
    place = tmp_path / "copy"
    args = {"repo": f"file://{origin}", "dest": str(place)}
    first = git(origin, "rev-parse", "HEAD~1")
    for version, text in (("main", "two"), ("v-one", "one"), (first, "one"), (first[:10], "one"), ("HEAD", "two")):
        call(host, "git.clone", version=version, **args)
        assert (place / "file").read_text() == text, version
        assert call(host, "git.clone", version=version, **args).status == "unchanged", version
    (origin / "file").write_text("three")
    git(origin, "commit", "-q", "-a", "-m", "three")
    assert call(host, "git.clone", version="main", update=False, **args).status == "unchanged"
    assert call(host, "git.clone", version="main", check=True, **args).status == "changed"
    assert (place / "file").read_text() == "two"
    done = call(host, "git.clone", version="main", **args)
    assert (done.status, done.values["after"]) == ("changed", git(origin, "rev-parse", "HEAD"))


def test_local_changes_are_not_thrown_away_unasked(host: Local, origin: Path, tmp_path: Path) -> None:
    args = {"repo": f"file://{origin}", "dest": str(tmp_path / "copy")}
    call(host, "git.clone", version="v-one", **args)
    (tmp_path / "copy/file").write_text("mine")
    with pytest.raises(Failed, match="Local modifications"):
        call(host, "git.clone", version="v-two", **args)
    assert (tmp_path / "copy/file").read_text() == "mine"
    call(host, "git.clone", version="v-two", force=True, **args)
    assert (tmp_path / "copy/file").read_text() == "two"
    with pytest.raises(Failed, match="no branch, tag or commit nope"):
        call(host, "git.clone", version="nope", **args)


def cloned(host: Local, origin: Path, place: Path, **args: Any) -> str:
    """Clone twice; the second call changes nothing. Return the first one's status."""
    given = {"repo": f"file://{origin}", "dest": str(place), **args}
    first = call(host, "git.clone", **given)
    assert call(host, "git.clone", **given).status == "unchanged"
    return str(first.status)


def test_what_a_killed_clone_left_is_completed(host: Local, origin: Path, tmp_path: Path) -> None:
    git(tmp_path, "clone", "-q", "--no-checkout", f"file://{origin}", "copy")
    (tmp_path / "copy/.git/index.lock").write_text("")
    (tmp_path / "copy/file").write_text("half")
    assert cloned(host, origin, tmp_path / "copy") == "changed"
    assert (tmp_path / "copy/file").read_text() == "two"
    (tmp_path / "empty").mkdir()
    git(tmp_path / "empty", "init", "-q", "-b", "other")
    assert cloned(host, origin, tmp_path / "empty", version="main") == "changed"
    assert (tmp_path / "empty/file").read_text() == "two"


@pytest.mark.parametrize("spoil", ["edit", "delete", "stage", "add"])
def test_a_modified_file_is_no_unchanged_copy(host: Local, origin: Path, tmp_path: Path, spoil: str) -> None:
    place = tmp_path / "copy"
    cloned(host, origin, place, version="main")
    (place / "file").write_text("mine")
    if spoil == "delete":
        (place / "file").unlink()
    elif spoil == "stage":
        git(place, "add", "file")
    elif spoil == "add":
        git(place, "checkout", "file")
        (place / "new file").write_text("mine")
        git(place, "add", "new file")
    args = {"repo": f"file://{origin}", "dest": str(place), "version": "main"}
    for check in (True, False):
        with pytest.raises(Failed, match="Local modifications"):
            call(host, "git.clone", check=check, **args)
    assert call(host, "git.clone", update=False, **args).status == "unchanged"
    assert cloned(host, origin, place, version="main", force=True) == "changed"
    assert (place / "file").read_text() == "two"
    assert not (place / "new file").exists()


def test_an_untracked_file_in_the_way_is_kept(host: Local, origin: Path, tmp_path: Path) -> None:
    place = tmp_path / "copy"
    cloned(host, origin, place, version="main")
    (origin / "new").write_text("theirs")
    git(origin, "add", "new")
    git(origin, "commit", "-q", "-m", "three")
    (place / "new").write_text("mine")
    (place / "other").write_text("mine")
    with pytest.raises(Failed, match="would be overwritten") as caught:
        cloned(host, origin, place, version="main")
    assert "force = true" in caught.value.hint
    assert (place / "new").read_text() == "mine"
    assert cloned(host, origin, place, version="main", force=True) == "changed"
    assert [(place / name).read_text() for name in ("new", "other")] == ["theirs", "mine"]


@pytest.mark.parametrize("version", ["main", "topic/new"])
def test_a_branch_may_take_the_place_of_one_as_a_directory(
    host: Local, origin: Path, tmp_path: Path, version: str
) -> None:
    place = tmp_path / "copy"
    git(origin, "branch", "topic")
    assert cloned(host, origin, place, version="main") == "changed"
    git(origin, "branch", "-m", "topic", "topic/new")
    git(origin, "checkout", "-q", version)
    (origin / "file").write_text("moved on")
    git(origin, "commit", "-q", "-a", "-m", "moved on")
    for status in ("changed", "unchanged"):
        assert cloned(host, origin, place, version=version) == status
    assert (place / "file").read_text() == "moved on"


@pytest.mark.parametrize("where", ["branch", "detached", "other branch"])
def test_local_commits_are_not_thrown_away_unasked(host: Local, origin: Path, tmp_path: Path, where: str) -> None:
    place = tmp_path / "copy"
    cloned(host, origin, place, version="main")
    if where == "detached":
        git(place, "checkout", "-q", "--detach")
    (place / "file").write_text("mine")
    git(place, "commit", "-q", "-a", "-m", "mine")
    mine = git(place, "rev-parse", "HEAD")
    if where == "other branch":
        git(place, "checkout", "-q", "v-one")
    for check in (True, False):
        with pytest.raises(Failed, match="has commits that"):
            call(host, "git.clone", check=check, repo=f"file://{origin}", dest=str(place), version="main")
    assert git(place, "cat-file", "-t", mine) == "commit"
    assert cloned(host, origin, place, version="main", force=True) == "changed"
    assert (place / "file").read_text() == "two"


def test_a_rewritten_branch_is_followed(host: Local, origin: Path, tmp_path: Path) -> None:
    place = tmp_path / "copy"
    cloned(host, origin, place, version="main")
    (origin / "file").write_text("rewritten")
    git(origin, "commit", "-q", "-a", "--amend", "-m", "rewritten")
    assert cloned(host, origin, place, version="main") == "changed"
    assert (place / "file").read_text() == "rewritten"
    first = git(origin, "rev-parse", "HEAD~1")
    for version in (first, "main", "v-one", "main"):
        assert cloned(host, origin, place, version=version) == "changed"


@pytest.mark.parametrize("depth", [None, 1])
def test_any_version_with_and_without_depth(host: Local, origin: Path, tmp_path: Path, depth: int | None) -> None:
    git(origin, "checkout", "-q", "-b", "feature/x")
    (origin / "file").write_text("x")
    git(origin, "commit", "-q", "-a", "-m", "x")
    (origin / "file").write_text("pull")
    git(origin, "commit", "-q", "-a", "-m", "pull")
    git(origin, "update-ref", "refs/pull/7/head", "HEAD")
    git(origin, "reset", "-q", "--hard", "HEAD~1")
    git(origin, "checkout", "-q", "main")
    first = git(origin, "rev-parse", "v-one^{commit}")
    versions = {
        "refs/pull/7/head": "pull", "refs/heads/feature/x": "x", "feature/x": "x", "v-one": "one",
        "refs/tags/v-two": "two", first: "one", first[:8]: "one", "HEAD": "two",
    }  # fmt: skip
    for number, (version, text) in enumerate(versions.items()):
        for place in (tmp_path / f"copy{number}", tmp_path / "moving"):  # ansible#7693: one that is there moves on
            cloned(host, origin, place, version=version, depth=depth)
            assert (place / "file").read_text() == text, (version, place)
    assert git(tmp_path / "copy1", "rev-parse", "--abbrev-ref", "HEAD") == "feature/x"
    assert git(tmp_path / "copy1", "rev-parse", "--abbrev-ref", "@{upstream}") == "origin/feature/x"
    assert git(tmp_path / "moving", "rev-parse", "--abbrev-ref", "HEAD") == "main"


def test_submodules_are_completed(host: Local, origin: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "gitconfig").write_text('[protocol "file"]\n allow = always\n')
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(tmp_path / "gitconfig"))
    (tmp_path / "outer").mkdir()
    git(tmp_path / "outer", "init", "-q", "-b", "main")
    git(tmp_path / "outer", "submodule", "--quiet", "add", f"file://{origin}", "sub dir")
    git(tmp_path / "outer", "commit", "-q", "-m", "outer")
    place, file = tmp_path / "copy", tmp_path / "copy/sub dir/file"
    origin.rename(tmp_path / "away")
    for _ in range(2):
        with pytest.raises(Failed, match="git submodule"):
            cloned(host, tmp_path / "outer", place)
    (tmp_path / "away").rename(origin)
    assert call(host, "git.clone", repo=f"file://{tmp_path}/outer", dest=str(place), check=True).status == "changed"
    assert cloned(host, tmp_path / "outer", place) == "changed"
    assert file.read_text() == "two"
    git(tmp_path / "copy/sub dir", "checkout", "-q", "v-one")
    assert cloned(host, tmp_path / "outer", place) == "changed"
    assert file.read_text() == "two"
    file.write_text("mine")
    with pytest.raises(Failed, match="Local modifications") as caught:
        cloned(host, tmp_path / "outer", place)
    assert caught.value.detail == "sub dir"
    assert cloned(host, tmp_path / "outer", place, force=True) == "changed"  # ansible-modules-core#238
    assert file.read_text() == "two"
    cloned(host, tmp_path / "outer", tmp_path / "flat", recursive=False)  # ansible#7927
    assert list((tmp_path / "flat/sub dir").iterdir()) == []


def test_a_repository_that_is_yet_to_be_made_is_unknown_in_a_check(host: Local, origin: Path, tmp_path: Path) -> None:
    args = {"repo": str(tmp_path / "none"), "dest": str(tmp_path / "copy")}
    with pytest.raises(Failed, match="there is no repository"):
        call(host, "git.clone", check=True, **args)
    call(host, "file.directory", path=str(tmp_path / "made"), check=True)
    assert call(host, "git.clone", check=True, **args).unknown
    (tmp_path / "copy").write_text("a file")
    with pytest.raises(Failed, match="is not a working copy"):
        cloned(host, origin, tmp_path / "copy")


def tar(members: dict[str, Any], mode: str = "w:gz") -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as archive:
        for name, value in members.items():
            info = value if isinstance(value, tarfile.TarInfo) else tarfile.TarInfo(name)
            data = b"" if isinstance(value, tarfile.TarInfo) else value
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def special(name: str, kind: bytes, target: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


def unpack(host: Local, data: bytes, dest: Path, **args: Any) -> Outcome:
    host.given = [data]
    digest = hashlib.sha256(data).hexdigest()
    asset = {"name": "a.tar.gz", "mode": "0644", "dir": False, "sha256": digest, "size": len(data)}
    return call(host, "archive.unpack", assets=(asset,), src="a.tar.gz", dest=str(dest), **args)


@pytest.mark.parametrize("creates", ["top/a", "top", "top/"])
def test_what_an_archive_creates_may_be_in_it(host: Local, tmp_path: Path, creates: str) -> None:
    (tmp_path / "dest").mkdir()
    data = tar({"top/a": b"a", "top/b": b"b"})
    for status, check in (("changed", True), ("changed", False), ("unchanged", False)):
        done = unpack(host, data, tmp_path / "dest", creates=f"{tmp_path}/dest/{creates}", check=check)
        assert done.status == status
    assert (tmp_path / "dest/top/b").read_bytes() == b"b"


def test_a_check_sees_what_an_archive_does_not_replace(host: Local, tmp_path: Path) -> None:
    (tmp_path / "dest/a/full").mkdir(parents=True)
    for check in (True, False):
        with pytest.raises(Failed, match="a is a directory, and in the archive it is a file"):
            unpack(host, tar({"0": b"new", "a": b"a"}), tmp_path / "dest", check=check)
    assert os.listdir(tmp_path / "dest") == ["a"]


def test_a_link_may_have_several_names_in_an_archive(host: Local, tmp_path: Path) -> None:
    (tmp_path / "dest").mkdir()
    (tmp_path / "from").mkdir()
    (tmp_path / "from/link").symlink_to("nowhere")
    os.link(tmp_path / "from/link", tmp_path / "from/other", follow_symlinks=False)
    data = subprocess.run(["tar", "c", "-C", str(tmp_path / "from"), "."], stdout=subprocess.PIPE, check=True).stdout
    for status in ("changed", "unchanged"):
        assert unpack(host, data, tmp_path / "dest").status == status
    assert os.readlink(tmp_path / "dest/link") == os.readlink(tmp_path / "dest/other") == "nowhere"


@pytest.mark.parametrize("mode", ["w:gz", "w:bz2", "w:xz", "w"])
def test_an_archive_is_unpacked_once_and_healed(host: Local, tmp_path: Path, mode: str) -> None:
    dest = tmp_path / "dest"
    dest.mkdir()
    (dest / "other").write_text("stays")
    link = special("top/link", tarfile.SYMTYPE, "b")
    data = tar({"top/z": b"z", "top/a/b": b"b" * 3000, "top/link": link}, mode)
    assert unpack(host, data, dest, strip_components=1).status == "changed"
    assert (dest / "a/b").read_bytes() == b"b" * 3000
    assert os.readlink(dest / "link") == "b"
    stamp = (dest / "z").stat().st_mtime_ns
    host.given = []  # what it has seen it need not see again
    assert call(
        host, "archive.unpack", assets=({"name": "a", "sha256": hashlib.sha256(data).hexdigest(), "size": 1, "mode": "",
        "dir": False},), src="a", dest=str(dest), strip_components=1, creates=str(dest / "z"),
    ).status == "unchanged"  # fmt: skip
    (dest / "a/b").write_text("spoiled")
    assert unpack(host, data, dest, strip_components=1).status == "changed"
    assert (dest / "a/b").read_bytes() == b"b" * 3000
    assert (dest / "z").stat().st_mtime_ns == stamp
    assert (dest / "other").read_text() == "stays"
    assert unpack(host, data, dest, strip_components=1).status == "unchanged"


def test_a_zip_keeps_its_modes(host: Local, tmp_path: Path) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        info = zipfile.ZipInfo("bin/tool")
        info.external_attr = 0o100755 << 16
        archive.writestr(info, b"#!/bin/sh\n")
        archive.writestr("doc/x", b"x")
    (tmp_path / "dest").mkdir()
    assert unpack(host, buffer.getvalue(), tmp_path / "dest", exclude=["doc"]).status == "changed"
    assert os.access(tmp_path / "dest/bin/tool", os.X_OK)
    assert not (tmp_path / "dest/doc").exists()
    assert unpack(host, buffer.getvalue(), tmp_path / "dest", exclude=["doc"]).status == "unchanged"


@pytest.mark.parametrize(
    ("members", "said"),
    [
        ({"ok": b"x", "../out": b"x"}, "outside"),
        ({"ok": b"x", "/abs": b"x"}, "outside"),
        ({"ok": b"x", "l": special("l", tarfile.SYMTYPE, "../..")}, "leads outside"),
        ({"ok": b"x", "l": special("l", tarfile.SYMTYPE, "/etc")}, "leads outside"),
        ({"ok": b"x", "d": special("d", tarfile.CHRTYPE)}, "device"),
        ({"ok": b"x", "l": special("l", tarfile.SYMTYPE, "dir"), "l/x": b"x"}, "below a link"),
    ],
)
def test_a_hostile_archive_writes_nothing(host: Local, tmp_path: Path, members: dict[str, Any], said: str) -> None:
    (tmp_path / "dest").mkdir()
    with pytest.raises(Failed, match=said):
        unpack(host, tar(members), tmp_path / "dest")
    assert os.listdir(tmp_path / "dest") == []


def zipped(members: dict[str, bytes], mode: int = 0o100644) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, data in members.items():
            info = zipfile.ZipInfo(name)
            info.external_attr = mode << 16
            archive.writestr(info, data)
    return buffer.getvalue()


def test_a_tar_that_ends_with_a_zip_is_a_tar(host: Local, tmp_path: Path) -> None:
    (tmp_path / "dest").mkdir()
    data = tar({"app/readme": b"x", "app/app.jar": zipped({"META-INF/MANIFEST.MF": b"y"})}, "w")
    assert zipfile.is_zipfile(io.BytesIO(data))
    unpack(host, data, tmp_path / "dest")
    assert sorted(path.name for path in (tmp_path / "dest/app").iterdir()) == ["app.jar", "readme"]


@pytest.mark.parametrize(
    "unsafe",
    [
        special("bad", tarfile.SYMTYPE, "/etc"), special("bad", tarfile.CHRTYPE), special("/bad", tarfile.REGTYPE),
        special("../bad", tarfile.REGTYPE),
    ],
    ids=lambda info: f"{info.name} {info.linkname}",
)  # fmt: skip
def test_what_is_excluded_need_not_be_safe(host: Local, tmp_path: Path, unsafe: tarfile.TarInfo) -> None:
    (tmp_path / "dest").mkdir()
    data = tar({"good": b"x", unsafe.name: unsafe})
    for status in ("changed", "unchanged"):
        assert unpack(host, data, tmp_path / "dest", exclude=[unsafe.name]).status == status
    assert os.listdir(tmp_path / "dest") == ["good"]
    assert os.listdir(tmp_path) == ["home", "dest"] or not (tmp_path / "bad").exists()


def test_what_is_stripped_from_names_counts_for_links_too(host: Local, tmp_path: Path) -> None:
    (tmp_path / "dest").mkdir()
    data = tar({"a/b/file": b"x", "a/b/link": special("a/b/link", tarfile.SYMTYPE, "../up")})
    unpack(host, data, tmp_path / "dest", strip_components=1)
    with pytest.raises(Failed, match="leads outside"):
        unpack(host, data, tmp_path / "dest", strip_components=2)
    through = tar({"l": special("l", tarfile.SYMTYPE, "."), "m": special("m", tarfile.SYMTYPE, "l/..")})
    with pytest.raises(Failed, match="leads outside"):
        unpack(host, through, tmp_path / "dest")


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (tar({"a": b"x" * 5000})[:60], "cannot be read"),
        (tar({"a": b"x" * 5000}, "w:xz")[:100], "cannot be read"),
        (tar({"a": b"x" * 5000}, "w")[:700], "cannot be read"),
        (zipped({"a": b"x" * 5000})[:-30], "not an archive"),
        (zipped({"a": b"x" * 5000}).replace(b"x" * 5000, b"y" * 5000), "cannot be read"),
        (tar({"a": special("a", tarfile.LNKTYPE, "none")}), "has no content"),
        (b"", "not an archive"),
        (b"text", "not an archive"),
    ],
    ids=["gz", "xz", "tar", "zip-cut", "zip-crc", "hard-link", "empty", "text"],
)
def test_a_damaged_archive_is_an_error_that_says_so(host: Local, tmp_path: Path, data: bytes, said: str) -> None:
    (tmp_path / "dest").mkdir()
    with pytest.raises(Failed, match=said):
        unpack(host, data, tmp_path / "dest")
    assert os.listdir(tmp_path / "dest") == []


def test_a_directory_is_no_archive(host: Local, tmp_path: Path) -> None:
    tree = [{"name": "tree", "mode": "0755", "dir": True}, {"name": "tree/x", "mode": "0644", "sha256": "0", "size": 1}]
    for assets in (tree, tree[:1], tree[1:] * 2):
        with pytest.raises(Failed, match="is a directory, not an archive"):
            call(host, "archive.unpack", assets=tuple(assets), src="tree", dest=str(tmp_path))
    with pytest.raises(Failed, match="is a directory, not an archive"):
        call(host, "archive.unpack", src=str(tmp_path), dest=str(tmp_path), remote_src=True)
    with pytest.raises(ArgumentError, match="not an empty string"):
        call(host, "archive.unpack", src="", dest=str(tmp_path))


def test_an_empty_archive_and_an_empty_choice(host: Local, tmp_path: Path) -> None:
    (tmp_path / "dest").mkdir()
    assert unpack(host, tar({}), tmp_path / "dest").status == "unchanged"
    for arguments in ({"include": ["none"]}, {"exclude": ["*"]}, {"strip_components": 3}):
        with pytest.raises(Failed, match="leave no member"):
            unpack(host, tar({"a/b": b"x"}), tmp_path / "dest", **arguments)


def test_public_reports_of_archives(host: Local, tmp_path: Path) -> None:
    for name in ("owned", "modes", "links", "excluded"):
        (tmp_path / name).mkdir()
    closed = special("d", tarfile.DIRTYPE)
    closed.mode = 0o555
    for status in ("changed", "unchanged"):
        # ansible#57303, ansible#76489: an owner, also with exclude; a directory that its owner may not write
        data = tar({"d": closed, "d/a": b"x", "d/b": b"y"})
        owner = {"owner": "nobody"} if os.geteuid() == 0 else {}
        assert unpack(host, data, tmp_path / "owned", exclude=["d/b"], **owner).status == status
        # ansible#22254: unusual permissions in a zip
        assert unpack(host, zipped({"t": b"x"}, 0o100777), tmp_path / "modes").status == status
        # ansible-modules-core#1823: links in a zip
        assert unpack(host, zipped({"t": b"to"}, 0o120777), tmp_path / "links").status == status
        # ansible#26279, ansible#25039: exclude of what is below a directory, of a file, in a zip
        members = {"t/foo/static/0.png": b"0", "t/bar/baz": b"1", "t/index": b"2"}
        done = unpack(host, zipped(members), tmp_path / "excluded", exclude=["t/foo/*", "t/index"])
        assert done.status == status
    assert (tmp_path / "owned/d").stat().st_mode & 0o7777 == 0o555
    assert os.readlink(tmp_path / "links/t") == "to"
    assert [path.name for path in (tmp_path / "excluded/t").rglob("*")] == ["bar", "baz"]


def test_names_in_an_archive_need_not_be_utf_8(host: Local, tmp_path: Path) -> None:
    (tmp_path / "dest").mkdir()
    data = tar({"\udcff/\udcfe": b"x", "l": special("l", tarfile.SYMTYPE, "\udcff")})
    for status in ("changed", "unchanged"):
        assert unpack(host, data, tmp_path / "dest").status == status
    assert (tmp_path / "dest/\udcff/\udcfe").read_bytes() == b"x"


def test_a_link_on_the_host_leads_an_archive_nowhere(host: Local, tmp_path: Path) -> None:
    (tmp_path / "dest").mkdir()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "dest/sub").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(Failed, match="through a link"):
        unpack(host, tar({"sub/x": b"x"}), tmp_path / "dest")
    assert os.listdir(tmp_path / "elsewhere") == []


@pytest.mark.parametrize(
    "args",
    [{"password": ""}, {"password": "  "}, {"password": "!", "lock": False}, {"password": "!!", "lock": False}],
)
def test_a_password_that_lets_everybody_in_is_refused(host: Local, args: dict[str, Any]) -> None:
    for module in ("user.create", "user.modify"):
        with pytest.raises(ArgumentError, match="anybody could log in") as error:
            call(host, module, name="nobody", check=True, **args)
        assert "empty_password = true" in error.value.hint
    with pytest.raises(ArgumentError, match="empty_password excludes"):
        call(host, "user.create", name="nobody", check=True, empty_password=True, password="$6$a$b")


def test_an_account_is_observed_by_every_call(host: Local) -> None:
    assert call(host, "user.delete", name="nobody", check=True).status == "changed"
    host.predicted.clear()
    host.foresight = None
    assert call(host, "user.modify", name="nobody", comment="other", check=True).status == "changed"
