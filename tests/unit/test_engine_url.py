"""The URL of a cluster, what its TLS says when it fails, and the files that go to workers on other machines."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest

from sloth.engine.workers import address
from sloth.errors import UsageError
from tests.support.tls import Certificates


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("dask://", "a host is missing"),
        ("tcp://127.0.0.1:1", 'unknown engine "tcp"'),
        ("127.0.0.1:8786", 'the engine "127.0.0.1:8786" is no URL'),
        ("dask://ann@127.0.0.1", "credentials do not belong into a URL"),
        ("dask://127.0.0.1/x", "the URL has a path"),
        ("dask://::1", '"::1" is no host and port'),
        ("dask://127.0.0.1:0", '"0" is no port: a number from 1 to 65535'),
        ("dask://127.0.0.1:65536", '"65536" is no port: a number from 1 to 65535'),
        ("dask://127.0.0.1?ca=x", 'the option "ca" is of TLS'),
        ("dasks://h?color=x", 'unknown option "color"'),
        ("dasks://h?name=a&name=b", 'the option "name" is there twice'),
        ("dasks://h?name=", 'the option "name" is empty'),
        ("dasks://h?name", 'the option "name" is empty'),
        ("dasks://h?ca=/none", 'the option "cert" is missing'),
        ("dasks://h?ca=/none&cert=/none&key=/none", "ca=/none cannot be read: No such file or directory"),
        ("dask://scheduler", "without TLS a scheduler must be on this machine, and scheduler is not"),
        ("dask://10.0.0.1", "without TLS a scheduler must be on this machine, and 10.0.0.1 is not"),
    ],
)
def test_a_url_that_is_wrong(url: str, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        address.parse(url)
    assert caught.value.message == message
    assert caught.value.hint


def test_urls(tmp_path: Path) -> None:
    certificates = Certificates(tmp_path)
    where = f"ca={certificates.ca}&cert={certificates.cert}&key={certificates.key}"
    for url, shown in (
        ("dask://localhost", "tcp://localhost:8786"),
        ("DASK://[::1]:7/", "tcp://[::1]:7"),
        (f"dasks://Scheduler?{where}&name=web%31", "tls://scheduler:8786"),
    ):
        assert address.parse(url).url == shown
    assert address.parse(f"dasks://h?{where}&name=web%31").name == "web1"
    _, encrypted = certificates.issue("locked-", "127.0.0.1", passphrase="secret")
    with pytest.raises(UsageError, match="is encrypted"):
        address.parse(f"dasks://h?{where}".replace(str(certificates.key), str(encrypted)))


@pytest.mark.parametrize("name", ["scheduler..example", f"{'x' * 64}.example"])
async def test_a_name_that_no_resolver_takes(tmp_path: Path, name: str) -> None:
    pytest.importorskip("distributed", reason="needs the extra dask")
    from sloth.engine.workers import cluster

    made = Certificates(tmp_path)
    url = f"dasks://{name}?ca={made.ca}&cert={made.cert}&key={made.key}"
    with pytest.raises(UsageError, match="is empty or too long") as caught:
        await cluster.connect(address.parse(url))
    assert name in caught.value.message


def failure(reason: str) -> ssl.SSLError:
    error = ssl.SSLError(1, "[SSL] something of OpenSSL")
    error.reason = reason
    return error


def refused(code: int, message: str) -> ssl.SSLCertVerificationError:
    error = ssl.SSLCertVerificationError(1, "something of OpenSSL")
    error.verify_code, error.verify_message = code, message
    return error


@pytest.mark.parametrize(
    ("error", "why", "hint"),
    [
        (refused(62, "Hostname mismatch"), "its certificate is refused: Hostname mismatch", "&name=NAME"),
        (refused(10, "certificate has expired"), "its certificate is refused: certificate has expired", "the clocks"),
        (refused(20, "unable to get issuer"), "its certificate is refused: unable to get issuer", "ca= must be the CA"),
        (refused(26, "unsupported purpose"), "its certificate is refused: unsupported purpose", "docs/scale.md"),
        (failure("TLSV13_ALERT_CERTIFICATE_REQUIRED"), "it refuses our certificate: tlsv13 alert", "cert= must be"),
        (failure("WRONG_VERSION_NUMBER"), "it does not speak TLS", "--protocol tls"),
        (failure("RECORD_LAYER_FAILURE"), "it does not speak TLS", "--protocol tls"),
        (failure("BAD_SIGNATURE"), "bad signature", "docs/scale.md"),
        (ssl.SSLError(1, "something else"), "something else", "docs/scale.md"),
    ],
)
def test_why_tls_has_failed(error: ssl.SSLError, why: str, hint: str) -> None:
    pytest.importorskip("distributed", reason="needs the extra dask")
    from sloth.engine.workers.certificates import explain

    text, what = explain(error)
    assert text.startswith(why)
    assert hint in what


def test_what_a_worker_answers_about_itself() -> None:
    pytest.importorskip("distributed", reason="needs the extra dask")
    from sloth.engine.workers import cluster

    own = {"version": "1", "python": "3.11", "code": "abc"}
    for answer, message in (
        (ModuleNotFoundError("No module named 'lupa'"), "cannot load sloth-runner: No module named 'lupa'"),
        ("ImportError('x')", "cannot load sloth-runner: ImportError('x')"),
        (OSError("it hangs"), "cannot be used: it hangs"),
        (None, "cannot be used: None"),
        (b'{"host": "w", "version": "2", "python": "3.11"}', "has sloth-runner 2, and this machine 1"),
        (b'{"host": "w", "version": "1", "python": "3.12"}', "has Python 3.12, and this machine 3.11"),
        (b'{"host": "w", "version": "1", "python": "3.11"}', "has other sources of sloth-runner 1"),
    ):
        with pytest.raises(UsageError) as caught:
            cluster._checked("tcp://w:1", answer, own)
        assert message in caught.value.message
        assert caught.value.message.startswith("the worker ")
    assert cluster.describe_error(TimeoutError()) == "no answer within 15 seconds"
    assert cluster.describe_error(ValueError()) == "ValueError"
    assert len(cluster.describe_error(ValueError("x" * 5000))) == 303
