"""Links of proxied pages: which are rewritten, whatever parts a page arrives in."""

from __future__ import annotations

import gzip
import zlib
from functools import partial

import pytest

from proa.apiserver.special.links import Page, back_through, page

PREFIX = "/api/v1/namespaces/n/pods/p/proxy"
REWRITE = partial(back_through, prefix=PREFIX, own_hosts={"10.0.0.1:80", "10.0.0.1", "api.example.com"})


@pytest.mark.parametrize(
    ("link", "wanted"),
    [
        ("/a", f"{PREFIX}/a"),
        ("/", f"{PREFIX}/"),
        ("/a/?q=1#f", f"{PREFIX}/a/?q=1#f"),
        ("http://10.0.0.1:80/a", f"{PREFIX}/a"),
        ("//10.0.0.1/a", f"{PREFIX}/a"),
        ("https://api.example.com/a", f"{PREFIX}/a"),
        ("http://elsewhere/a", "http://elsewhere/a"),
        ("http://[bad/a", "http://[bad/a"),
        ("a/b", "a/b"),
        ("#top", "#top"),
        ("mailto:a@b", "mailto:a@b"),
        (f"{PREFIX}/a", f"{PREFIX}/a"),
        (f"{PREFIX}er/a", f"{PREFIX}{PREFIX}er/a"),
    ],
)
def test_links(link: str, wanted: str) -> None:
    assert REWRITE(link) == wanted


PAGES = [
    ('<a href="/x">t</a>', f'<a href="{PREFIX}/x">t</a>'),
    ("<A  HREF = '/x' class=b>t</A>", f"<A  HREF = '{PREFIX}/x' class=b>t</A>"),
    ("<img src=/x.png alt=/y>", f'<img src="{PREFIX}/x.png" alt=/y>'),
    ('<a href="/x?a=1&amp;b=2">', f'<a href="{PREFIX}/x?a=1&amp;b=2">'),
    ('<p title="/x">1 < 2 > 0 &lt; <b>/y</b>', '<p title="/x">1 < 2 > 0 &lt; <b>/y</b>'),
    ('<!-- <a href="/x"> --><a href="/y">', f'<!-- <a href="/x"> --><a href="{PREFIX}/y">'),
    (
        """<script src="/s.js">if (a<b) x="<a href='/x'>"</script><a href="/y">""",
        f"""<script src="{PREFIX}/s.js">if (a<b) x="<a href='/x'>"</script><a href="{PREFIX}/y">""",
    ),
    ('<a title="a > b" href="/x">', f'<a title="a > b" href="{PREFIX}/x">'),
    (
        '<form action="/f"><input formaction="/g" value="/v"/>',
        f'<form action="{PREFIX}/f"><input formaction="{PREFIX}/g" value="/v"/>',
    ),
    ("<!DOCTYPE html><html manifest=/m>", f'<!DOCTYPE html><html manifest="{PREFIX}/m">'),
    ("a <", "a <"),
    ('<a href="/never', '<a href="/never'),
    ("<a href='/x'>\xe9\xff</a>", f"<a href='{PREFIX}/x'>\xe9\xff</a>"),
]


@pytest.mark.parametrize(("text", "wanted"), PAGES)
@pytest.mark.parametrize("size", [1, 3, 1000])
def test_pages_in_parts(text: str, wanted: str, size: int) -> None:
    sent = text.encode("latin-1")
    rewriter = Page(REWRITE)
    parts = [rewriter.feed(sent[at : at + size]) for at in range(0, len(sent), size)]
    assert b"".join([*parts, rewriter.end()]).decode("latin-1") == wanted


def test_a_tag_without_end_is_not_held_for_ever() -> None:
    rewriter = Page(REWRITE)
    sent = sum(len(rewriter.feed(b'<a title="' + b"x" * 65536)) for _ in range(10))
    assert sent > 200_000


def test_compressed_pages() -> None:
    sent = b'<a href="/x">t</a>' * 1000
    wanted = sent.replace(b"/x", f"{PREFIX}/x".encode())
    for encoding, packed, bits in (
        ("gzip", gzip.compress(sent), 16 + zlib.MAX_WBITS),
        ("deflate", zlib.compress(sent, wbits=-zlib.MAX_WBITS), -zlib.MAX_WBITS),
    ):
        rewriter = page("text/html; charset=utf-8", encoding, REWRITE)
        assert rewriter is not None
        parts = [rewriter.feed(packed[at : at + 10]) for at in range(0, len(packed), 10)]
        assert zlib.decompress(b"".join([*parts, rewriter.end()]), wbits=bits) == wanted
    assert page("text/html", "br", REWRITE) is None
    assert page("application/json", "", REWRITE) is None
