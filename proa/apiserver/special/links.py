"""Links of proxied pages lead back through the proxy: in HTML, and in the Location of redirects.

Follows upstream's proxy transport: what it rewrites are absolute paths in the attributes below, of start tags; what
leads to another host, is relative, or leads through the proxy already stays. Scripts and comments are left alone.
No sockets here: a page's bytes go in as they come, and come out as they may be sent on.
"""

from __future__ import annotations

import html
import re
import zlib
from collections.abc import Callable, Collection
from urllib.parse import urlsplit, urlunsplit

_ATTRIBUTES = {
    "a": "href",
    "applet": "codebase",
    "area": "href",
    "audio": "src",
    "base": "href",
    "blockquote": "cite",
    "body": "background",
    "button": "formaction",
    "command": "icon",
    "del": "cite",
    "embed": "src",
    "form": "action",
    "frame": "longdesc src",
    "head": "profile",
    "html": "manifest",
    "iframe": "longdesc src",
    "img": "longdesc src usemap",
    "input": "src formaction usemap",
    "ins": "cite",
    "link": "href",
    "object": "archive classid codebase data usemap",
    "q": "cite",
    "script": "src",
    "source": "src",
    "video": "poster src",
}
_LINKS = {tag: frozenset(names.split()) for tag, names in _ATTRIBUTES.items()}
# A start tag with its attributes; a comment, declaration or instruction; an end tag.
_MARKUP = re.compile(rb"<([a-zA-Z][^\s/>]*)((?:[^>\"']|\"[^\"]*\"|'[^']*')*)>|<!--.*?-->|<[!?/][^>]*>", re.DOTALL)
_ATTRIBUTE = re.compile(rb"([^\s=/>\"']+)(\s*=\s*)(\"[^\"]*\"|'[^']*'|[^\s\"'>]+)")
_RAW_TEXT = ("script", "style", "textarea", "title", "xmp", "iframe", "noembed", "noframes")
_HELD_BYTES_MAX = 256 * 1024  # of a tag that does not end: no tag


def back_through(text: str, prefix: str, own_hosts: Collection[str]) -> str:
    """Returns a link so that it leads through the proxy at `prefix`; `own_hosts` are the backend's names for itself."""
    try:
        parts = urlsplit(text)
    except ValueError:
        return text
    if (parts.netloc and parts.netloc not in own_hosts) or not parts.path.startswith("/"):
        return text
    if parts.path == prefix or parts.path.startswith(f"{prefix}/"):
        return text
    return urlunsplit(("", "", prefix + parts.path, parts.query, parts.fragment))


class Page:
    """Rewrites an HTML page as it arrives."""

    def __init__(self, rewrite: Callable[[str], str]) -> None:
        self._rewrite = rewrite
        self._held = b""
        self._until = b""  # within a script or the like: its end tag

    def feed(self, data: bytes) -> bytes:
        """Takes the next part in; returns what is certain by now."""
        text, self._held = self._held + data, b""
        done: list[bytes] = []
        at = 0
        while at < len(text):
            if self._until:
                end = text.lower().find(self._until, at)
                if end < 0:
                    keep = max(at, len(text) - len(self._until))
                    self._held = text[keep:]
                    done.append(text[at:keep])
                    break
                done.append(text[at:end])
                at, self._until = end, b""
            start = text.find(b"<", at)
            if start < 0:
                done.append(text[at:])
                break
            done.append(text[at:start])
            found = _MARKUP.match(text, start)
            if found is None:
                if _may_become_markup(text[start : start + 2]) and len(text) - start < _HELD_BYTES_MAX:
                    self._held = text[start:]
                    break
                done.append(b"<")
                at = start + 1
                continue
            done.append(self._tag(found) if found[1] else found[0])
            at = found.end()
        return b"".join(done)

    def end(self) -> bytes:
        """Returns what was held back: a tag that never ended."""
        held, self._held = self._held, b""
        return held

    def _tag(self, found: re.Match[bytes]) -> bytes:
        name = found[1].decode("latin-1").lower()
        if name in _RAW_TEXT and not found[2].endswith(b"/"):
            self._until = b"</" + name.encode()
        links = _LINKS.get(name)
        if links is None:
            return found[0]

        def change(attribute: re.Match[bytes]) -> bytes:
            if attribute[1].decode("latin-1").lower() not in links:
                return attribute[0]
            value = attribute[3]
            quote = value[:1] if value[:1] in (b'"', b"'") else b""
            link = html.unescape((value[1:-1] if quote else value).decode("utf-8", "surrogateescape"))
            rewritten = self._rewrite(link)
            if rewritten == link:
                return attribute[0]
            shown = html.escape(rewritten).encode("utf-8", "surrogateescape")
            return attribute[1] + attribute[2] + (quote or b'"') + shown + (quote or b'"')

        return b"<" + found[1] + _ATTRIBUTE.sub(change, found[2]) + b">"


def _may_become_markup(start: bytes) -> bool:
    """Tells whether more bytes could make a tag of what begins with `<`."""
    return len(start) < 2 or start[1:].isalpha() or start[1:] in (b"!", b"/", b"?")


class Compressed:
    """A page that is compressed as `encoding` says: gzip or deflate."""

    WINDOWS = {"gzip": 16 + zlib.MAX_WBITS, "deflate": -zlib.MAX_WBITS}

    def __init__(self, page: Page, encoding: str) -> None:
        bits = self.WINDOWS[encoding]
        self._page = page
        self._reader = zlib.decompressobj(bits)
        self._writer = zlib.compressobj(wbits=bits)

    def feed(self, data: bytes) -> bytes:
        """As a page's; raises zlib.error if it is not what it claims to be."""
        made = self._writer.compress(self._page.feed(self._reader.decompress(data)))
        return made + self._writer.flush(zlib.Z_SYNC_FLUSH)

    def end(self) -> bytes:
        rest = self._page.feed(self._reader.flush()) + self._page.end()
        return self._writer.compress(rest) + self._writer.flush()


def page(content_type: str, encoding: str, rewrite: Callable[[str], str]) -> Page | Compressed | None:
    """Returns what rewrites an answer with these headers; None: it is no page, or nothing that can be read."""
    if not content_type.lower().startswith("text/html"):
        return None
    if not encoding or encoding == "identity":
        return Page(rewrite)
    return Compressed(Page(rewrite), encoding) if encoding in Compressed.WINDOWS else None
