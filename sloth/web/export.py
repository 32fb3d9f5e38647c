"""Pages as files, for CI artefacts and mail: links among them are relative, and no script, form or token is in them."""

from __future__ import annotations

import hashlib
import html
import os
import re
import shutil
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, unquote, urlsplit

from starlette.routing import compile_path

from sloth.errors import SlothError, UsageError
from sloth.web.rendering import HERE
from sloth.web.view import Query, View

if TYPE_CHECKING:
    from sloth.web.app import Site

_LINK = re.compile(r'<a\b([^>]*?)\shref="([^"]*)"')
_LEFT_OUT = re.compile(
    r"<form\b.*?</form>|<script\b.*?</script>|<noscript>.*?</noscript>|<button\b.*?</button>", re.DOTALL
)
_ASSET = re.compile(r'(href|src)="/static/([a-z.]+)(?:\?[0-9a-f]*)?"')
MARK = ".sloth-runner-export"  # the file that makes a directory known as one that may be written again
_REFUSED = {"sort", "q"}  # what a list can be asked for without end


class Exporter:
    """Writes pages to a directory."""

    def __init__(self, site: Site, directory: Path, most: int) -> None:
        """most: how many pages are written when none are chosen."""
        self._site = site
        self._directory = directory
        self._most = most
        self._views = [(compile_path(view.path)[0], view) for view in site.views]
        self._files: dict[str, str] = {}  # of pages, by their addresses

    def write(self, chosen: Sequence[str]) -> tuple[int, int]:
        """Write pages: the chosen ones, or the overview and all that it leads to; return how many, and how many not.

        Raises SlothError: a chosen page does not exist, or the directory cannot be written.
        """
        texts: dict[str, str] = {}
        left = deque(chosen or ["/"])
        seen = set(left)
        while left and (chosen or len(texts) < self._most):
            address = left.popleft()
            try:
                texts[address] = text = _LEFT_OUT.sub("", self._render(address))
            except SlothError:
                if address in chosen or not texts:
                    raise
                continue
            self._files[address] = _file_name(address)
            for found in () if chosen else map(html.unescape, (match[2] for match in _LINK.finditer(text))):
                target = found.partition("#")[0]
                if target not in seen and self._is_followed(target):
                    seen.add(target)
                    left.append(target)
        try:
            self._save(texts)
        except OSError as error:
            raise UsageError(f"cannot write {error.filename or self._directory}: {error.strerror}") from error
        return len(texts), len(left)

    def _save(self, texts: dict[str, str]) -> None:
        self._require_own([*self._files.values(), "index.html", "static/style.css", "static/icon.svg", MARK])
        (self._directory / "static").mkdir(parents=True, exist_ok=True)
        (self._directory / MARK).touch()
        for name in ("style.css", "icon.svg"):
            shutil.copyfile(HERE / "static" / name, self._directory / "static" / name)
        for address, text in texts.items():
            path = self._directory / self._files[address]
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(self._relative(text, self._files[address]), encoding="utf-8", errors="replace")
        if "/" not in texts:  # so that there is one to begin with
            links = "".join(f'<li><a href="{self._files[one]}">{html.escape(one)}</a></li>' for one in texts)
            page = f'<!doctype html><meta charset="utf-8"><title>sloth-runner</title><ul>{links}</ul>\n'
            (self._directory / "index.html").write_text(page, encoding="utf-8", errors="replace")

    def _require_own(self, files: Sequence[str]) -> None:
        """Refuse a directory with other things in it, and links, which lead elsewhere. Raises UsageError."""
        for file in files:
            parts = Path(file).parts
            for length in range(1, len(parts) + 1):
                path = self._directory.joinpath(*parts[:length])
                if path.is_symlink():
                    raise UsageError(f"{path} is a link, and pages are not written through it", hint="remove it")
        directory = self._directory
        if directory.is_dir() and any(directory.iterdir()) and not (directory / MARK).exists():
            raise UsageError(f"{directory} is not empty", hint="choose a new directory, or one of an earlier export")

    def _relative(self, text: str, file: str) -> str:
        base = os.path.dirname(file)

        def link(match: re.Match[str]) -> str:
            target, _, fragment = html.unescape(match[2]).partition("#")
            if not target and fragment:
                return match[0]
            to = self._files.get(target)
            if to is None:
                return f"<a{match[1]}"  # it stays as text
            address = os.path.relpath(to, base or ".") + (f"#{fragment}" if fragment else "")
            return f'<a{match[1]} href="{html.escape(address)}"'

        text = _ASSET.sub(lambda match: f'{match[1]}="{os.path.relpath("static", base or ".")}/{match[2]}"', text)
        return _LINK.sub(link, text)

    def _is_followed(self, address: str) -> bool:
        parts = urlsplit(address)
        names = [name for name, _ in parse_qsl(parts.query)]
        is_short = len(names) <= 1 or (parts.path == "/resource" and set(names) == {"key", "host"})
        return address.startswith("/") and is_short and not _REFUSED & set(names) and self._view(parts.path) is not None

    def _view(self, path: str) -> tuple[View, dict[str, str]] | None:
        for pattern, view in self._views:
            match = pattern.match(path)
            if match is not None:
                return view, {
                    name: unquote(value, errors="surrogateescape") for name, value in match.groupdict().items()
                }
        return None

    def _render(self, address: str) -> str:
        parts = urlsplit(address)
        found = self._view(parts.path)
        if found is None:
            raise UsageError(f"there is no page {address}", hint="such as /, /runs/last, /drift, /plans")
        view, values = found
        given = dict(parse_qsl(parts.query, errors="surrogateescape"))
        return self._site.render(view, Query.read(view, {**given, **values}), parts.path)


def _file_name(address: str) -> str:
    """Return the file of a page: readable, and another one for every address."""
    parts = urlsplit(address)
    if address == "/":
        return "index.html"
    path = unquote(parts.path, errors="replace").strip("/")
    clean = "/".join(
        re.sub(r"[^A-Za-z0-9._-]", "_", piece).strip(".").lstrip("-")[:80] or "_" for piece in path.split("/")
    )
    if clean == path.lower() == path and not parts.query:  # some file systems do not tell cases apart
        return f"{clean}.html"
    return f"{clean}-{hashlib.sha256(address.encode('utf-8', 'surrogateescape')).hexdigest()[:10]}.html"
