"""Turns a call's `src`, `content` or template into assets: hash and size at once, bytes when the host needs them."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import hashlib
import os
import re
import stat
from collections.abc import Awaitable, Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sloth.errors import CallError
from sloth.payload.kernel.hashing import sha256_for
from sloth.payload.kernel.resource import Call
from sloth.payload.session import wire
from sloth.playbook import Site
from sloth.playbook.rendering import Templates, Worker
from sloth.playbook.substitution import split
from sloth.playbook.template import find_template, may_need_more, read_text
from sloth.reading import NOT_REGULAR, expanduser, missing_hint, of_site, open_regular, why_not_regular
from sloth.state.memory import Memory, has_settled, signature
from sloth.transport import Asset

if TYPE_CHECKING:
    from sloth.payload.kernel.values import Arguments, Json
    from sloth.playbook import Matching

READ = 1024 * 1024
PIECE = 4 * wire.CHUNK  # bytes of a file that are read at once to be sent: whole frames, which a cache can hold
_QUOTED = re.compile(rb"[\"']([^\"'\\\n/~][^\"'\\\n]{0,200})[\"']")  # what may be a path below the site's directory
LARGEST_SEEN = 100_000  # bytes of a file that is looked at before it is used
LARGE = 4 * READ  # bytes from which on a hash is remembered from one run to the next

_File = tuple[str, int, int, int, int, int]  # a path, and what its signature() was
Variables = Callable[[Collection[str]], Awaitable[Mapping[str, Any]]]


class Shipper:
    """Resolves assets for all hosts of a run; a local file is hashed once, not once per host."""

    def __init__(self, memory: Memory) -> None:
        self._memory = memory
        self._templates: dict[tuple[Path, ...], Templates] = {}
        self._worker = Worker()
        self._start: asyncio.Task[None] | None = None
        self._hashes: dict[_File, str] = {}
        self._hashing: dict[_File, asyncio.Task[str]] = {}

    def templates(self, sources: tuple[Path, ...]) -> Templates:
        """Return what renders the templates in the directories `sources`, or below `templates` in one of them."""
        if sources not in self._templates:
            self._templates[sources] = Templates(with_inner(sources, "templates"), self._worker)
        return self._templates[sources]

    def warm_up(self, site: Site) -> None:
        """Start what renders templates, if the site seems to have some: hosts are being connected meanwhile."""
        if any(_may_need_jinja(file) for file in site.files):
            self._start = asyncio.create_task(self._worker.start())

    async def match(self, request: Matching) -> Json:
        """Evaluate a regular expression that takes long."""
        return await self._worker.match(request)

    async def close(self) -> None:
        """End what renders templates."""
        if self._start is not None:
            await asyncio.wait([self._start])
        await self._worker.close()

    async def prepare(
        self,
        cls: type[Call],
        args: Arguments,
        variables: Variables,
        sources: tuple[Path, ...],
        meanwhile: Callable[[], None] | None = None,
    ) -> tuple[Arguments, list[Asset]]:
        """Return the arguments to send and the assets that go with them.

        cls: the call's class, which declares what it ships. `variables(needs)` returns what a template sees, with
        `facts` and `hostvars` if they are among its needs. sources: where files are looked for. meanwhile: called
        before a thread hashes a large file. Raises CallError when a file is missing, unreadable, or does not render.
        """
        if cls.ships == "template":
            return args, [await self._template(cls, args, variables, self.templates(sources))]
        if cls.ships != "file" or args.get("remote_src"):
            return args, []
        if args.get("content") is not None:
            data = str(args["content"]).encode("utf-8", "surrogateescape")
            return {**args, "content": ""}, [of_bytes("", data)]
        if args.get("src") is None:
            return args, []
        source = find_file(args["src"], sources)
        if source.is_dir():
            return args, await self._tree(source, args["src"].endswith("/"), meanwhile)
        return args, [await self._file(source, source.name, meanwhile)]

    async def _template(self, cls: type[Call], args: Arguments, variables: Variables, templates: Templates) -> Asset:
        src = str(args["src"])
        seen = dict(await variables(await templates.needs(src)))
        seen.update(args.get("vars") or {})
        options = {name: args[name] for name in cls.render_options if args.get(name) is not None}
        text = await templates.render(src, seen, options)
        try:
            mode = _mode(templates.file(src).stat())
        except OSError as error:
            raise CallError(f"the template {src} was removed while it was rendered") from error
        return of_bytes(Path(src).name, _encode(text, str(args.get("output_encoding") or "utf-8")), mode)

    async def _file(self, path: Path, name: str, meanwhile: Callable[[], None] | None) -> Asset:
        try:
            info = path.stat()
            if not stat.S_ISREG(info.st_mode):
                if (why := why_not_regular(path)) != NOT_REGULAR:
                    raise CallError(f"{path} on the controller cannot be read: {why}")
                raise CallError(f"{path} is neither a file nor a directory")
            sha256 = await self._hash(path, info, meanwhile)
        except OSError as error:
            raise CallError(f"{path} on the controller cannot be read: {error.strerror}") from error
        return Asset(name, sha256, info.st_size, _mode(info), open=lambda: read_chunks(path, info.st_size))

    async def _hash(self, path: Path, info: os.stat_result, meanwhile: Callable[[], None] | None) -> str:
        key = (str(path), *signature(info))
        is_settled = has_settled(info)  # before it is read: what changes meanwhile may keep its times
        known = self._hashes.get(key)
        if known is None and info.st_size < LARGE:
            known = hash_file(path, info.st_size)
        elif known is None:
            known = self._memory.hash_of(str(path), info)
            if known is None:
                if meanwhile is not None:
                    meanwhile()
                known = await self._hash_large(key, path, info.st_size)
                if is_settled:
                    self._memory.keep_hash(str(path), info, known)
        if is_settled:
            self._hashes[key] = known
        return known

    async def _hash_large(self, key: _File, path: Path, size: int) -> str:
        """Hash a file in a thread, once for all hosts that wait for it."""
        task = self._hashing.get(key)
        if task is None:
            task = self._hashing[key] = asyncio.create_task(asyncio.to_thread(hash_file, path, size))
            task.add_done_callback(lambda done: self._hashed(key, done))
        return await asyncio.shield(task)

    def _hashed(self, key: _File, task: asyncio.Task[str]) -> None:
        del self._hashing[key]
        if not task.cancelled():
            task.exception()  # whoever still waits gets it

    async def _tree(self, source: Path, contents: bool, meanwhile: Callable[[], None] | None) -> list[Asset]:
        """Return the assets of a directory: with `contents` of what is in it, else also of the directory itself.

        A final slash makes the difference, as in Ansible.
        """
        prefix = "" if contents else source.name + "/"
        try:
            assets = [] if contents else [Asset(source.name, mode=_mode(source.stat()), dir=True)]
            for root, directories, files in os.walk(source, onerror=_fail, followlinks=True):
                directories.sort()
                inside = Path(root).relative_to(source)
                for name in directories:
                    info = (Path(root) / name).stat()
                    assets.append(Asset(prefix + str(inside / name), mode=_mode(info), dir=True))
                for name in sorted(files):
                    assets.append(await self._file(Path(root) / name, prefix + str(inside / name), meanwhile))
        except OSError as error:  # what cannot be read must not be missing without a word
            raise CallError(f"{error.filename} on the controller cannot be read: {error.strerror}") from error
        return assets


def _fail(error: OSError) -> None:
    raise error


def _may_need_jinja(file: Site) -> bool:
    """Return whether a file of a site seems to have work for Jinja2: templates with more than names of variables."""
    if b"template" not in file.source:
        return b"jinja" in file.source
    if b"jinja" in file.source.replace(b"jinja2", b""):
        return True
    directories = with_inner((file.directory,), "templates")
    texts = []
    for name in set(_QUOTED.findall(file.source)):
        with contextlib.suppress(CallError):
            path = find_template(name.decode("utf-8", "replace"), directories)
            texts.append(read_text(str(path)) if path.stat().st_size < LARGEST_SEEN else "")
    return not texts or any(split(text) is None or may_need_more(text) for text in texts)


def with_inner(directories: Sequence[Path], name: str) -> list[Path]:
    """Return each directory, followed by the one of this name in it."""
    return [path for directory in directories for path in (directory, directory / name)]


def find_file(src: str, sources: Sequence[Path]) -> Path:
    """Return the path of a local file: absolute, in one of these directories, or below `files` in one of them."""
    if not src.strip():  # joined to the site's directory it would mean all of it, secrets included
        raise CallError("src must be a path, not an empty string")
    path = expanduser(src)
    inside = with_inner(sources, "files")
    candidates = [of_site(path)] if path.is_absolute() else [directory / path for directory in inside]
    for candidate in candidates:
        if os.path.exists(candidate):  # False also for a name that cannot be one
            return candidate
    raise CallError(
        f"there is no file {src} on the controller",
        hint=missing_hint("looked for " + " and ".join(str(candidate) for candidate in candidates)),
    )


def of_bytes(name: str, data: bytes, mode: str = "") -> Asset:
    """Return an asset of these bytes."""

    def chunks() -> Iterator[bytes]:
        return iter((data,) if data else ())

    return Asset(name, _sha256(data), len(data), mode, open=chunks)


def _sha256(data: bytes) -> str:
    digest = sha256_for(len(data))
    digest.update(data)
    return digest.hexdigest()


def _encode(text: str, encoding: str) -> bytes:
    try:
        return text.encode(encoding, "surrogateescape" if encoding == "utf-8" else "strict")
    except LookupError:
        raise CallError(f"output_encoding: there is no encoding {encoding}") from None
    except UnicodeEncodeError as error:
        raise CallError(f"output_encoding: {encoding} cannot represent {error.object[error.start]!r}") from None


def hash_file(path: Path, size: int) -> str:
    """Return the SHA-256 of the first `size` bytes of a local file, as hex. Raises OSError."""
    digest = hashlib.sha256()
    for data in read_chunks(path, size, READ):
        digest.update(data)
    return digest.hexdigest()


def read_chunks(path: Path, size: int, piece: int = PIECE) -> Iterator[bytes]:
    """Yield the first `size` bytes of a local file in pieces, of which frames are made; what has grown is left out.

    Raises OSError, also when the file has become shorter.
    """
    with open_regular(path) as file:
        while size > 0 and (data := file.read(min(piece, size))):
            size -= len(data)
            yield data
    if size > 0:
        raise OSError(errno.ESTALE, "it has become shorter meanwhile", str(path))


def _mode(info: os.stat_result) -> str:
    return f"{stat.S_IMODE(info.st_mode):04o}"
