"""Certificates for tests: a CA, those it has signed (one for 127.0.0.1), and a CA that has nothing to do with them."""

from __future__ import annotations

import datetime
import ipaddress
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID


class Certificates:
    """The files, in a directory."""

    def __init__(self, directory: Path) -> None:
        self.ca, self.cert, self.key = (directory / name for name in ("ca.pem", "cert.pem", "key.pem"))
        self.other_ca = directory / "other.pem"
        self._directory = directory
        self._signer = signer = ec.generate_private_key(ec.SECP256R1())
        self._signed = ca = _certificate("Test CA", signer, None, signer)
        self._write(self.ca, ca)
        self.issue("", "127.0.0.1")
        other = ec.generate_private_key(ec.SECP256R1())
        self._write(self.other_ca, _certificate("Other CA", other, None, other))

    def issue(self, prefix: str, name: str, is_expired: bool = False, passphrase: str = "") -> tuple[Path, Path]:
        """Let the CA sign a certificate for a name or an address; return the files of it and of its key."""
        key = ec.generate_private_key(ec.SECP256R1())
        cert_path, key_path = (self._directory / (prefix + path.name) for path in (self.cert, self.key))
        self._write(cert_path, _certificate(name, key, self._signed, self._signer, is_expired))
        how = serialization.BestAvailableEncryption(passphrase.encode()) if passphrase else serialization.NoEncryption()
        form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
        key_path.write_bytes(key.private_bytes(*form, how))
        return cert_path, key_path

    def _write(self, path: Path, certificate: x509.Certificate) -> None:
        path.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))


def _certificate(
    name: str,
    key: ec.EllipticCurvePrivateKey,
    ca: x509.Certificate | None,
    signer: ec.EllipticCurvePrivateKey,
    is_expired: bool = False,
) -> x509.Certificate:
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=30 if is_expired else 0)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(ca.subject if ca else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=ca is None, path_length=None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False)
    )
    if ca is not None:
        is_address = name[0].isdigit()
        own = x509.IPAddress(ipaddress.ip_address(name)) if is_address else x509.DNSName(name)
        names = x509.SubjectAlternativeName([own])
        usages = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH])
        builder = builder.add_extension(names, critical=False).add_extension(usages, critical=False)
    return builder.sign(signer, hashes.SHA256())
