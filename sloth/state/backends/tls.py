"""The TLS settings of a backend's connections: from its URL, or from the environment variables of its own tools."""

from __future__ import annotations

import os
import ssl
from pathlib import Path
from typing import TYPE_CHECKING

from sloth.errors import UsageError

if TYPE_CHECKING:
    from sloth.state.backends.location import Tls

# The variables of etcdctl and consul for the same three files.
VARIABLES = {
    "etcd": ("ETCDCTL_CACERT", "ETCDCTL_CERT", "ETCDCTL_KEY"),
    "consul": ("CONSUL_CACERT", "CONSUL_CLIENT_CERT", "CONSUL_CLIENT_KEY"),
}


def trusting(url: str, ca: Path | None) -> ssl.SSLContext:
    """Return TLS settings that trust a CA (None: those of the system). Raises UsageError."""
    context = ssl.create_default_context()
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if ca is None:
        return context
    try:
        context = ssl.create_default_context(cafile=ca)
    except (ssl.SSLError, ValueError) as error:
        raise UsageError(f"{url}: {ca} has no certificate of a CA: {error}") from error
    except OSError as error:
        raise UsageError(f"{url}: cannot read {ca}: {error.strerror}") from error
    return context


def tls_context(url: str, files: Tls, tool: str) -> ssl.SSLContext:
    """Return the TLS settings for a URL whose own files count more than those of the tool's variables.

    Without a CA those of the system count. Raises UsageError when a file cannot be used.
    """
    ca, cert, key = (
        given or (Path(os.environ[name]).expanduser() if os.environ.get(name) else None)
        for given, name in zip((files.ca, files.cert, files.key), VARIABLES[tool], strict=True)
    )
    for path in filter(None, (ca, cert, key)):
        try:
            path.read_bytes()
        except OSError as error:
            raise UsageError(f"{url}: cannot read {path}: {error.strerror}") from error
    if (cert is None) != (key is None):
        raise UsageError(f"{url}: {cert or key} has no {'key' if key is None else 'certificate'} beside it")
    context = trusting(url, ca)
    try:
        if cert is not None and key is not None:
            context.load_cert_chain(cert, key, password=lambda: "")  # an encrypted key must not ask at the terminal
    except (ssl.SSLError, ValueError) as error:
        raise UsageError(f"{url}: {cert} and {key} are no certificate and its key: {error}") from error
    return context
