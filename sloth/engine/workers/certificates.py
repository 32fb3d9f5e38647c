"""TLS with a scheduler of Dask: its certificate is checked, and what is wrong is explained.

Dask itself checks that a certificate is signed by the CA, and not whose it is: with that of any worker, somebody could
take the scheduler's place.
"""

from __future__ import annotations

import ssl
from typing import Any

from distributed.security import Security

from sloth.engine.workers.address import EngineAddress
from sloth.errors import UsageError

_ISSUERS = (18, 19, 20, 21)  # of OpenSSL: nobody whom we trust has signed it
_EXPIRED = (9, 10)  # not yet or no longer valid
_NAMES = (62, 64)  # of another host or address


class CheckedSecurity(Security):  # type: ignore[misc]  # Dask has no types
    """The certificates of a cluster. The name of the scheduler's is checked."""

    def __init__(self, name: str, **files: str) -> None:
        """name: which it must have; "": that of the host."""
        super().__init__(require_encryption=True, **files)
        self._name = name

    def get_connection_args(self, role: str) -> dict[str, Any]:
        """Return how connections are made."""
        arguments: dict[str, Any] = super().get_connection_args(role)
        if arguments["ssl_context"] is not None:
            arguments["ssl_context"].check_hostname = True
        if self._name:
            arguments["server_hostname"] = self._name
        return arguments


def security_of(address: EngineAddress) -> CheckedSecurity:
    """Return the certificates that a URL names, or else those of Dask's own configuration. Raises UsageError."""
    tls = address.tls or {}
    names = {"ca": "tls_ca_file", "cert": "tls_client_cert", "key": "tls_client_key"}
    security = CheckedSecurity(address.name, **{names[name]: str(path) for name, path in tls.items()})
    files = {name: str(getattr(security, field)) for name, field in names.items() if getattr(security, field)}
    if not files.keys() >= {"ca", "cert"}:
        raise UsageError(
            f"there are no certificates for {address}",
            hint="name them in the URL (?ca=&cert=&key=), or in Dask's configuration (distributed.comm.tls)",
        )
    try:
        ssl.create_default_context(cafile=files["ca"])
    except OSError as error:
        raise UsageError(f"ca={files['ca']} is no certificate: {_reason(error)}") from None
    try:
        security.get_connection_args("client")
    except OSError as error:
        wrong = (
            "do not belong together" if _reason(error) == "key values mismatch" else "are no certificate and its key"
        )
        key = files.get("key", "")
        raise UsageError(f"cert={files['cert']} and key={key} {wrong}: {_reason(error)}") from None
    return security


def explain(error: ssl.SSLError) -> tuple[str, str]:
    """Return why TLS has failed, and what to do."""
    if isinstance(error, ssl.SSLCertVerificationError):
        why = f"its certificate is refused: {error.verify_message}"
        if error.verify_code in _NAMES:
            return why, "use the name that it was made for, or add &name=NAME with a name of the certificate to the URL"
        if error.verify_code in _EXPIRED:
            return why, "give the scheduler a certificate that is valid now, and look at the clocks of both machines"
        if error.verify_code in _ISSUERS:
            return why, "ca= must be the CA that has signed the scheduler's certificate"
        return why, "see docs/scale.md"
    reason = _reason(error)
    if "alert" in reason:
        return f"it refuses our certificate: {reason}", "cert= must be signed by the cluster's CA, and be valid now"
    if "wrong version" in reason or "record layer" in reason:
        return "it does not speak TLS", "start it with --protocol tls, or use dask:// on this machine"
    return reason, "see docs/scale.md"


def _reason(error: OSError) -> str:
    """Return what OpenSSL says, without its own codes."""
    reason = getattr(error, "reason", None)
    return reason.lower().replace("_", " ") if isinstance(reason, str) and reason else error.strerror or str(error)
