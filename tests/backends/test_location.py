"""URLs of backends: what they mean, and what is wrong with those that mean nothing."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from sloth.errors import UsageError
from sloth.state.backends.address import Address
from sloth.state.backends.location import (
    BucketLocation,
    ConsulLocation,
    EtcdLocation,
    FileLocation,
    Tls,
    open_backend,
    parse,
)


@pytest.mark.parametrize(
    ("url", "location"),
    [
        ("sqlite:///a/b.db", FileLocation("sqlite:///a/b.db", Path("/a/b.db"))),
        ("sqlite:///a%20b/c.db", FileLocation("sqlite:///a%20b/c.db", Path("/a b/c.db"))),
        ("etcd://h", EtcdLocation("etcd://h:2379/sloth-runner", (Address("h", 2379),), "sloth-runner")),
        (
            " ETCD://H1,h2:99/a/b// ",
            EtcdLocation("etcd://h1:2379,h2:99/a/b", (Address("h1", 2379), Address("h2", 99)), "a/b"),
        ),
        ("etcd://[::1]/x", EtcdLocation("etcd://[::1]:2379/x", (Address("::1", 2379),), "x")),
        ("etcd://[fe80::1%25eth0]:5/x", None),
        (
            "etcds://h/x?ca=/c.pem&cert=/a.pem&key=/k.pem",
            EtcdLocation(
                "etcds://h:2379/x?ca=/c.pem&cert=/a.pem&key=/k.pem",
                (Address("h", 2379),),
                "x",
                Tls(Path("/c.pem"), Path("/a.pem"), Path("/k.pem")),
            ),
        ),
        (
            "consul://h/t%C3%BC m%20p%25",
            ConsulLocation("consul://h:8500/t%C3%BC%20m%20p%25", (Address("h", 8500),), "tü m p%"),
        ),
        ("consuls://h", ConsulLocation("consuls://h:8501/sloth-runner", (Address("h", 8501),), "sloth-runner", Tls())),
        ("s3://my.bucket-1", BucketLocation("s3://my.bucket-1/sloth-runner", "my.bucket-1", "sloth-runner")),
        (
            "s3://team/p/?endpoint=http%3A%2F%2F[::1]:9000/&region=eu-west-1",
            BucketLocation(
                "s3://team/p?endpoint=http://%5B::1%5D:9000&region=eu-west-1",
                "team",
                "p",
                "http://[::1]:9000",
                "eu-west-1",
            ),
        ),
    ],
)
def test_a_url_is_parsed(url: str, location: object) -> None:
    if location is None:
        with pytest.raises(UsageError):
            parse(url)
        return
    found = parse(url)
    assert found == location
    assert parse(found.url) == found, "the address that is shown can be given again"


@pytest.mark.parametrize(
    ("url", "message", "hint"),
    [
        ("", "the backend is no URL", "backends are sqlite, etcd"),
        ("/var/lib/x.db", "the backend is no URL", "sqlite"),
        ("ectd://h/x", 'unknown backend "ectd"', 'did you mean "etcd"'),
        ("ftp://h/x", 'unknown backend "ftp"', "backends are sqlite, etcd"),
        ("sqlite://x.db", "the path must be absolute", "sqlite:///x.db with three slashes"),
        ("sqlite:///", "no path of a file", "sqlite:///var"),
        ("sqlite:///dir/", "no path of a file", ""),
        ("sqlite:///x?ca=1", 'unknown option "ca"', "sqlite:// has no options"),
        ("etcd://", "a host is missing", "for example etcd://"),
        ("etcd:///x", "a host is missing", ""),
        ("etcd://h1,,h2/x", "a host is missing", ""),
        ("etcd://h:/x", '"" is no port', "the usual one is 2379"),
        ("etcd://h:0/x", '"0" is no port', ""),
        ("etcd://h:65536/x", '"65536" is no port', ""),
        ("etcd://h:http/x", '"http" is no port', ""),
        ("etcd://::1:2379/x", "is no host and port", "in brackets: [::1:2379]"),
        ("etcd://[::zz]:1/x", '"[::zz]:1" is no host', ""),
        ("etcd://[1:2]:1/x", '"[1:2]" is no IPv6 address', ""),
        ("etcd://ho st/x", '"ho st" is no name of a host', ""),
        ("etcd://h/a//b", 'the prefix "a//b" has the part ""', ""),
        ("etcd://h/a/../b", 'has the part ".."', ""),
        ("etcd://h/a%zz", 'a "%" without two hexadecimal digits', "%25"),
        ("etcd://h/a%FF", "not UTF-8", ""),
        ("etcd://h/a%00b", "a control character", ""),
        ("etcd://h/a#b", 'a "#"', "%23"),
        ("etcd://h/x?ca=a.pem", 'unknown option "ca"', "use etcds://"),
        ("etcds://h/x?cer=a.pem", 'unknown option "cer"', 'did you mean "cert"'),
        ("etcds://h/x?cert=a.pem", 'the option "key" is missing', ""),
        ("etcds://h/x?ca=", 'the option "ca" is empty', ""),
        ("etcds://h/x?ca=a&ca=b", 'the option "ca" is there twice', ""),
        ("consul://h1,h2/x", "names several hosts", "name one"),
        ("s3://", "the bucket is missing", "for example s3://"),
        ("s3:///prefix", "the bucket is missing", ""),
        ("s3://Team/x", '"Team" is no name of a bucket', "lower-case"),
        ("s3://host:9000/x", "is no name of a bucket", "?endpoint=http://host:port"),
        ("s3://team/x?endpont=http://h", 'unknown option "endpont"', 'did you mean "endpoint"'),
        ("s3://team/x?endpoint=h:9000", "the endpoint must be http://", ""),
        ("s3://team/x?endpoint=http://h/path", "the endpoint must be http://", ""),
        ("s3://team/x?endpoint=http://h:99999", '"99999" is no port', "the usual one is 80"),
        ("s3://team/x?endpoint=https://h:abc", '"abc" is no port', "the usual one is 443"),
        ("s3://team/x?endpoint=http://[::1", '"[::1" is no host and port', ""),
        ("s3://team/x?endpoint=http://a b", '"a b" is no name of a host', ""),
        ("s3://team/x?endpoint=http://bücher.de:9000", "is no name of a host", "write it as xn--bcher-kva.de"),
        ("etcd://例え.jp/x", "is no name of a host", "write it as xn--r8jz45g.jp"),
    ],
)
def test_a_wrong_url_is_refused_with_a_reason(url: str, message: str, hint: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse(url)
    assert message in caught.value.message
    assert hint in caught.value.hint
    assert caught.value.hint


@pytest.mark.parametrize(
    ("url", "hint"),
    [
        ("etcd://root:s3cret@h/x", "$ETCDCTL_USER"),
        ("etcds://root:s3/cret@h/x", "$ETCDCTL_USER"),
        ("etcd://root:s3cret?@h/x", ""),
        ("consul://s3cret@h/x", "$CONSUL_HTTP_TOKEN"),
        ("consul://h/x?token=s3cret", "$CONSUL_HTTP_TOKEN"),
        ("s3://key:s3cret@team/x", "$AWS_ACCESS_KEY_ID"),
        ("s3://team/x?endpoint=http://key:s3cret@h", "$AWS_ACCESS_KEY_ID"),
        ("s3://team/x?secret_access_key=s3cret", "$AWS_ACCESS_KEY_ID"),
        ("s3://team/x?secretkey=s3cret", ""),
        ("redis://root:s3cret@h", ""),
        ("root:s3cret@h", ""),
        ("sqlite://root:s3cret@h/x", ""),
    ],
)
def test_credentials_in_a_url_are_refused_and_not_shown(url: str, hint: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse(url)
    assert "s3cret" not in str(caught.value)
    assert hint in caught.value.hint


def test_a_file_that_is_missing_is_named_when_the_backend_is_opened(tmp_path: Path) -> None:
    location = parse(f"etcds://h/x?ca={tmp_path}/ca.pem")
    with pytest.raises(UsageError, match=r"cannot read .*/ca.pem: No such file"):
        open_backend(location)
    (tmp_path / "ca.pem").write_text("no certificate")
    with pytest.raises(UsageError, match=r"ca.pem has no certificate of a CA"):
        open_backend(location)


def test_a_token_s_file_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONSUL_HTTP_TOKEN_FILE", "/none/token")
    with pytest.raises(UsageError, match="cannot read the token's file /none/token"):
        open_backend(parse("consul://h/x"))


def test_without_the_package_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "obstore", None)
    with pytest.raises(UsageError) as caught:
        open_backend(parse("s3://team/x?endpoint=http://h"))
    assert caught.value.hint == "pip install 'sloth-runner[s3]'"


def write_aws(directory: Path, monkeypatch: pytest.MonkeyPatch, config: str = "", credentials: str = "") -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_REGION", "AWS_DEFAULT_REGION"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(directory / "config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(directory / "credentials"))
    (directory / "config").write_text(config)
    (directory / "credentials").write_text(credentials)


KEYS = "aws_access_key_id = AKIA\naws_secret_access_key = s3cret%\n"


@pytest.mark.parametrize(
    ("config", "credentials", "profile", "message"),
    [
        ("", "", "", "the region is missing"),
        ("[default]\nregion = eu-west-1", f"[default]\n{KEYS}", "", None),
        ("[profile ci]\nregion = eu-west-1", f"[ci]\n{KEYS}", "ci", None),
        ("[profile ci]\nregion = eu-west-1", f"[ci]\n{KEYS}", "cj", "there is no profile cj"),
        ("[default]\nregion = x\nsso_start_url = https://x", "", "", "the profile default uses sso_start_url"),
        ("[default]\nregion = x\nendpoint_url = http://h", "", "", "no credentials"),
        ("nonsense s3cret", "", "", "it is no INI file"),
    ],
)
def test_amazon_s_files_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, config: str, credentials: str, profile: str, message: str | None
) -> None:
    write_aws(tmp_path, monkeypatch, config, credentials)
    monkeypatch.setenv("AWS_PROFILE", profile)
    if message is None:
        assert open_backend(parse("s3://team/x")).url == "s3://team/x"
        return
    with pytest.raises(UsageError) as caught:
        open_backend(parse("s3://team/x"))
    assert message in caught.value.message
    assert "s3cret" not in str(caught.value)


def test_a_key_without_its_secret_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_aws(tmp_path, monkeypatch)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIA")
    with pytest.raises(UsageError, match="AWS_SECRET_ACCESS_KEY"):
        open_backend(parse("s3://team/x?region=r"))


def test_parsing_imports_no_client() -> None:
    code = (
        "import sys; from sloth.state.backends.location import parse\n"
        "for url in ('sqlite:///x', 'etcd://h/x', 'etcds://h/x', 'consul://h/x', 's3://team/x'): parse(url)\n"
        "print([name for name in ('ssl', 'obstore', 'asyncio', 'cryptography', 'http.client', 'sqlite3')"
        " if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
