"""run --engine dasks://: a scheduler and workers with certificates, and certificates that do not fit."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from sloth.engine.workers.address import parse
from sloth.errors import UsageError
from tests.support.cluster import Cluster
from tests.support.home import Home
from tests.support.tls import Certificates

pytestmark = pytest.mark.timeout(300)
pytest.importorskip("distributed", reason="needs the extra dask")


def start(directory: Path, ca: Path, cert: Path, key: Path) -> Cluster:
    directory.mkdir()
    return Cluster(directory, ("--tls-ca-file", str(ca), "--tls-cert", str(cert), "--tls-key", str(key)), "tls")


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates(tmp_path_factory.mktemp("tls"))


@pytest.fixture(scope="module")
def over_tls(certificates: Certificates, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    own = certificates
    running = start(tmp_path_factory.mktemp("tls") / "dask", own.ca, own.cert, own.key)
    try:
        running.add_worker()
        yield running
    finally:
        running.close()


def query(ca: Path, cert: Path, key: Path, more: str = "") -> str:
    return f"?ca={ca}&cert={cert}&key={key}{more}"


async def refusal(url: str) -> str:
    """Return why a scheduler cannot be used; that is known soon."""
    from sloth.engine.workers.cluster import connect

    begun = time.monotonic()
    with pytest.raises(UsageError) as raised:
        await connect(parse(url))
    assert time.monotonic() - begun < 60
    return str(raised.value)


def test_a_run_over_certificates(
    home: Home, over_tls: Cluster, certificates: Certificates, monkeypatch: pytest.MonkeyPatch
) -> None:
    home.site("print(secret('token')) exec.run('true')")
    monkeypatch.setenv("SLOTH_SECRET_TOKEN", "unguessable-1")
    url = over_tls.url + query(certificates.ca, certificates.cert, certificates.key)
    document = home.json("run", "-f", "site.sloth", "--engine", url)
    assert [host["status"] for host in document["hosts"].values()] == ["changed", "changed"]
    assert "unguessable" not in json.dumps(document)
    for path in (home.path, over_tls.directory):
        for file in path.rglob("*"):
            assert not file.is_file() or b"unguessable" not in file.read_bytes(), file
    assert "Traceback" not in over_tls.log()


async def test_certificates_that_do_not_fit_are_explained(
    over_tls: Cluster, certificates: Certificates, tmp_path: Path
) -> None:
    own, other = certificates, Certificates(tmp_path)
    cert, key = own.issue("expired-", "127.0.0.1", is_expired=True)
    for words, text in (
        (query(own.other_ca, own.cert, own.key), "ca= must be the CA that has signed the scheduler's certificate"),
        (query(own.ca, other.cert, other.key), "it refuses our certificate: tlsv1 alert unknown ca"),
        (query(own.ca, cert, key), "it refuses our certificate: sslv3 alert certificate expired"),
        (query(own.ca, own.cert, own.key, "&name=other.example.com"), "not valid for 'other.example.com'"),
        (query(own.ca, own.cert, other.key), "do not belong together"),
        (query(own.key, own.cert, own.key), f"ca={own.key} is no certificate"),
        (query(own.ca, own.ca, own.ca), "are no certificate and its key"),
        (query(own.ca, *own.issue("sealed-", "127.0.0.1", passphrase="open")), "is encrypted"),
        ("", "there are no certificates for 127.0.0.1"),
    ):
        assert text in await refusal(over_tls.url + words)
    plain = over_tls.url.replace("dasks://", "dask://")
    assert "takes connections with TLS only; hint: use dasks://" in await refusal(plain)


async def test_a_scheduler_with_another_name_or_a_certificate_that_has_expired(
    certificates: Certificates, tmp_path: Path
) -> None:
    from sloth.engine.workers.cluster import connect

    own = certificates
    named = start(tmp_path / "named", own.ca, *own.issue("named-", "scheduler.example.com"))
    try:
        mine = query(own.ca, own.cert, own.key)
        said = await refusal(named.url + mine)
        assert "IP address mismatch, certificate is not valid for '127.0.0.1'" in said
        assert "add &name=NAME" in said
        client = await connect(parse(named.url + mine + "&name=scheduler.example.com"))
        await client.close()
    finally:
        named.close()
    old = start(tmp_path / "old", own.ca, *own.issue("old-", "127.0.0.1", is_expired=True))
    try:
        said = await refusal(old.url + mine)
        assert "its certificate is refused: certificate has expired; hint: give the scheduler a certificate" in said
    finally:
        old.close()


async def test_a_scheduler_without_tls(certificates: Certificates, tmp_path: Path) -> None:
    (tmp_path / "plain").mkdir()
    plain = Cluster(tmp_path / "plain")
    try:
        url = plain.url.replace("dask://", "dasks://")
        said = await refusal(url + query(certificates.ca, certificates.cert, certificates.key))
        assert "it does not speak TLS; hint: start it with --protocol tls" in said
    finally:
        plain.close()
