"""`sloth-runner web`: serves the web UI."""

from __future__ import annotations

import ipaddress
import os
import secrets
import socket
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

import click

from sloth.cli import backend_option, parameters
from sloth.cli.output import count, warn
from sloth.cli.syncing import fetch_news
from sloth.errors import UsageError
from sloth.inventory import Inventory, find_inventory
from sloth.state.storage import Storage

if TYPE_CHECKING:
    from sloth.web.settings import Actions, Settings

PORT = 8420
SHORTEST_TOKEN = 16  # characters


@click.group(invoke_without_command=True)
@parameters.AGENT_INVENTORY
@backend_option.BACKEND
@click.option("--address", default="127.0.0.1", show_default=True, help="The address to listen on.")
@click.option("--port", type=click.IntRange(0, 65535), default=PORT, show_default=True, help="The port; 0: any.")
@click.option("--cert", metavar="FILE", type=click.Path(), help="The certificate, in PEM form, with its chain.")
@click.option("--key", metavar="FILE", type=click.Path(), help="The key of the certificate.")
@click.option("--behind-proxy", is_flag=True, help="A reverse proxy with TLS is before it; needs --host-name.")
@click.option(
    "--host-name", multiple=True, metavar="NAME", help="Also answer to this name, with its port if that is not usual."
)
@click.option("--prefix", default="", metavar="PATH", help="The path below which the reverse proxy has it: /sloth.")
@click.option(
    "--token-file",
    metavar="FILE",
    type=click.Path(),
    help="A file with the token that clients need.  [default: $SLOTH_WEB_TOKEN, or a new one]",
)
@click.option("--plan", multiple=True, metavar="FILE", type=click.Path(), help="Also show a saved plan.")
@click.option("--metrics-public", is_flag=True, help="Let everybody read /metrics, without the token.")
@click.option("--follow", metavar="RUN", hidden=True, help="Of run --web: lead to this run; end when stdin does.")
@click.option("--allow-actions", is_flag=True, help="Let pages look for drift, unlock and freeze, after a question.")
@click.pass_context
def web(
    ctx: click.Context,
    inventory: tuple[str, ...],
    address: str,
    port: int,
    cert: str | None,
    key: str | None,
    behind_proxy: bool,
    host_name: tuple[str, ...],
    prefix: str,
    token_file: str | None,
    plan: tuple[str, ...],
    metrics_public: bool,
    follow: str | None,
    allow_actions: bool,
) -> int:
    """Serve the web UI: runs, hosts and their states in a browser, and as a JSON API.

    Open the address that is printed: it logs in once. Programs send the token as a bearer token. Off loopback, TLS is
    needed: --cert and --key, or a reverse proxy.
    """
    if ctx.invoked_subcommand is not None:
        return 0
    _require_extra()
    import uvicorn

    from sloth.web.app import Site, create_app
    from sloth.web.server import BoundedProtocol, end_with_stdin
    from sloth.web.settings import Settings, host_headers

    _check(address, cert, key, behind_proxy, host_name, prefix)
    token = _token(token_file)
    listener = _listen(address, port)
    port = listener.getsockname()[1]
    storage = backend_option.storage_without_hosts(inventory)
    memory = storage.memory()  # it creates or migrates what pages only read
    memory.close()
    read_inventory = _reader(inventory)
    open_storage = storage.again
    settings = Settings(
        directory=memory.directory,
        token=token,
        hosts=host_headers(address, port, tuple(name.lower() for name in host_name)),
        secure=cert is not None or behind_proxy,
        read_inventory=read_inventory,
        fetch=partial(fetch_news, open_storage()) if storage.location is not None else None,
        prefix=prefix,
        storage=open_storage,
        plans=tuple(map(Path, plan)),
        actions=_actions(read_inventory, open_storage) if allow_actions else None,
        metrics_public=metrics_public,
        start="/" if follow is None else f"/runs/{quote(follow, safe='')}",
    )
    site = Site(settings)
    config = uvicorn.Config(
        create_app(site),
        http=BoundedProtocol,
        ws="none",
        lifespan="on",
        log_level="warning",
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=5,
        timeout_graceful_shutdown=2,
        limit_concurrency=500,
        h11_max_incomplete_event_size=32 * 1024,
        ssl_certfile=cert,
        ssl_keyfile=key,
    )
    try:
        config.load()
    except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
        listener.close()
        site.close()
        raise UsageError(f"--cert and --key cannot be used: {error}") from error
    _announce(settings, site.logins.code, address, port, host_name, behind_proxy)
    server = uvicorn.Server(config)
    if follow is not None:
        end_with_stdin(server, site.streams)
    server.run(sockets=[listener])
    return 0


@web.command()
@click.argument("directory", type=click.Path(file_okay=False, path_type=Path))
@click.argument("pages", nargs=-1, metavar="[PAGE]...")
@parameters.AGENT_INVENTORY
@backend_option.BACKEND
@click.option("--plan", multiple=True, metavar="FILE", type=click.Path(), help="Also show a saved plan.")
@click.option(
    "--most", type=click.IntRange(1), default=1000, show_default=True, help="Pages to write when none are named."
)
def export(
    directory: Path, pages: tuple[str, ...], inventory: tuple[str, ...], plan: tuple[str, ...], most: int
) -> int:
    """Write pages as files, which need no server: for CI artefacts, and for review.

    A PAGE is its address: /runs/last, /drift, /plans. Without one, the overview and all that it leads to is written.
    What links to a page that is not written stays as text.

    \b
    sloth-runner web export report /runs/last
    """
    _require_extra()
    from sloth.web.app import Site
    from sloth.web.export import Exporter
    from sloth.web.settings import Settings

    memory = Storage().memory()
    memory.close()
    settings = Settings(
        directory=memory.directory,
        token="",
        hosts=(),
        read_inventory=_reader(inventory),
        storage=backend_option.storage_without_hosts(inventory).again,
        plans=tuple(map(Path, plan)),
    )
    site = Site(settings)
    try:
        site.refresh_now()
        written, left = Exporter(site, directory, most).write(pages)
    finally:
        site.close()
    more = f"; {left} more were left out (--most)" if left and not pages else ""
    click.echo(f"wrote {count(written, 'page')} to {directory / 'index.html'}{more}")
    return 0


def _require_extra() -> None:
    """Raise UsageError when the extra `web` is not installed."""
    try:
        import starlette  # noqa: F401  only whether it is there
        import uvicorn  # noqa: F401  the same
    except ImportError as error:
        raise UsageError(f"{error.name} is not installed", hint="pip install 'sloth-runner[web]'") from error


def _actions(read_inventory: Callable[[], Inventory] | None, open_storage: Callable[[], Storage]) -> Actions:
    from sloth.cli.web_actions import WebActions

    return WebActions(read_inventory, open_storage)


def _check(
    address: str, cert: str | None, key: str | None, behind_proxy: bool, names: tuple[str, ...], prefix: str
) -> None:
    """Refuse what would be served without protection. Raises UsageError."""
    if (cert is None) != (key is None):
        raise UsageError("--cert and --key belong together")
    if cert is not None and behind_proxy:
        raise UsageError("--behind-proxy is for a proxy that has the certificate: leave out --cert and --key")
    if behind_proxy and not names:
        raise UsageError("--behind-proxy needs --host-name: the name by which browsers reach the proxy")
    if prefix and (not prefix.startswith("/") or prefix.endswith("/") or not prefix.isprintable() or "//" in prefix):
        raise UsageError(f"--prefix must be like /sloth, not {prefix!r}")
    for name in names:
        if not name or any(character in name for character in "/@ \t,") or not name.isprintable():
            raise UsageError(f"--host-name must be a name, or NAME:PORT, not {name!r}")
    if not _is_loopback(address) and cert is None and not behind_proxy:
        raise UsageError(
            f"{address} can be reached from other machines, and the token would be sent in the clear",
            hint="use --cert and --key, or --behind-proxy with a proxy that has TLS",
        )


def _is_loopback(address: str) -> bool:
    if address == "localhost":
        return True
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return False


def _token(path: str | None) -> str:
    """Return the token that clients need. Raises UsageError."""
    where = path or "$SLOTH_WEB_TOKEN"
    if path is not None:
        try:
            token = Path(path).read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError(f"cannot read {path}: {getattr(error, 'strerror', None) or error}") from error
        if os.stat(path).st_mode & 0o077:
            warn(f"warning: other users of this machine may read {path}; hint: chmod 600 {path}")
    else:
        token = os.environ.get("SLOTH_WEB_TOKEN", "")
        if not token:
            return secrets.token_urlsafe(32)
    if len(token) < SHORTEST_TOKEN or not token.isascii() or not token.isprintable():
        raise UsageError(f"the token in {where} must have at least {SHORTEST_TOKEN} printable ASCII characters")
    return token


def _listen(address: str, port: int) -> socket.socket:
    """Return a socket that listens. Raises UsageError."""
    try:
        family, kind, protocol, _, target = socket.getaddrinfo(address, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, kind, protocol)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(target)
        listener.listen(256)  # now: somebody may open the address as soon as it is printed
    except OSError as error:
        hint = "another program has it; use --port 0 for any" if "in use" in str(error) else ""
        raise UsageError(f"cannot listen on {address} port {port}: {error.strerror}", hint=hint) from error
    except UnicodeError:  # Python's answer to a name that is none
        raise UsageError(f"cannot listen on {address}: a part of the name is empty or too long") from None
    return listener


def _reader(files: tuple[str, ...]) -> Callable[[], Inventory] | None:
    """Return what reads the inventory, None when there is none. Raises UsageError when it cannot be read now."""
    found = find_inventory(files)
    if not found:
        return None
    first = [parameters.read_inventory(files)]

    def read() -> Inventory:
        return first.pop() if first else parameters.read_inventory(files)

    return read


def _announce(
    settings: Settings, code: str, address: str, port: int, names: tuple[str, ...], behind_proxy: bool
) -> None:
    """Print the address that logs in, and the token for programs."""
    own = f"[{address}]" if ":" in address else address
    host = names[0] if behind_proxy else f"{own}:{port}"
    base = f"{'https' if settings.secure else 'http'}://{host}{settings.prefix}"
    click.echo(f"{base}/login?code={code}")
    click.echo("This address logs in once. Stop with Ctrl-C.", err=True)
    if not os.environ.get("SLOTH_WEB_TOKEN"):
        click.echo(f"token for programs, and for further logins: {settings.token}", err=True)
