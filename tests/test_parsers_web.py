"""Thirty pages of three kinds around sentences that are unique to their text or to what surrounds it."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from reindex.parsers import Context
from reindex.parsers.web import blocks_of_html, read_html
from reindex.records import Block, ParsedDocument, Shape
from reindex.settings import Limits, Parsing

SUBJECTS = [
    "The harbour",
    "A glacier",
    "Our keeper",
    "The comet",
    "An orchid",
    "This valve",
    "Their loom",
    "The bridge",
]
VERBS = ["measures", "remembers", "follows", "carries", "outlasts", "repairs", "surrounds", "explains"]


class Sentences:
    """Draws sentences and keeps what it drew, of the text and of what surrounds it."""

    def __init__(self, seed: int) -> None:
        self._draw = random.Random(seed)
        self._number = seed * 1_000
        self.kept: list[str] = []
        self.dropped: list[str] = []

    def main(self) -> str:
        self.kept.append(f"{self._words()} in case {self._next()}.")
        return self.kept[-1]

    def menu(self) -> str:
        self.dropped.append(f"Topic {self._next()}")
        return self.dropped[-1]

    def banner(self) -> str:
        self.dropped.append(f"{self._words()} for visitor {self._next()}.")
        return self.dropped[-1]

    def links(self, between: str = "", count: int = 6) -> str:
        return between.join(f'<a href="/{i}">{self.menu()}</a>' for i in range(count))

    def items(self) -> str:
        return "".join(f'<li><a href="/{i}">{self.menu()}</a></li>' for i in range(6))

    def paragraphs(self, count: int = 3) -> str:
        return "".join(
            f'<p>{self.main()} See <a href="x.html">{self.main()}</a> {self.main()}</p>' for _ in range(count)
        )

    def _words(self) -> str:
        return f"{self._draw.choice(SUBJECTS)} {self._draw.choice(VERBS)} {self._draw.choice(SUBJECTS).lower()}"

    def _next(self) -> int:
        self._number += 1
        return self._number


def modern_page(say: Sentences) -> str:
    """Return a page as it is written now: its parts say what they are."""
    return f"""<!doctype html><html lang="en"><head><title>Modern</title><style>.a {{ {say.banner()} }}</style>
    <script>var x = "{say.banner()}";</script></head><body>
    <a class="skip-link" href="#main">Skip to {say.menu()}</a>
    <div id="cookie-banner" role="dialog"><p>{say.banner()}</p><button>{say.menu()}</button></div>
    <header><a href="/">{say.menu()}</a><nav><ul>{say.items()}</ul></nav></header>
    <main id="main"><nav aria-label="breadcrumb" class="breadcrumbs">{say.links(" / ", 3)}</nav>
      <article><header><h1>{say.main()}</h1><p>{say.main()}</p></header>
        {say.paragraphs()}<h2>{say.main()}</h2><ul><li>{say.main()}</li><li><p>{say.main()}</p></li></ul>
        <aside class="note"><p>{say.main()}</p></aside>
        <table><tr><th>{say.main()}</th><th>B</th></tr><tr><td>{say.main()}</td><td>{say.main()}</td></tr></table>
        <pre><code>{say.main()}</code></pre><div hidden>{say.banner()}</div>
        <blockquote>{say.main()}</blockquote><figure><img alt="x"><figcaption>{say.main()}</figcaption></figure>
        <div class="share-buttons">{say.links(count=4)}</div></article></main>
    <aside><h2>{say.menu()}</h2><ul>{say.items()}</ul></aside>
    <footer><p>{say.banner()}</p><ul>{say.items()}</ul></footer></body></html>"""


def old_page(say: Sentences) -> str:
    """Return a page laid out by tables and nameless divisions: nothing says what is a menu."""
    return f"""<html><head><title>Old</title></head><body bgcolor=white>
    <div><div>{say.links(" | ")}</div></div>
    <table width=100%><tr><td width=150><font size=2>{say.links("<br>")}<br>{say.links("<br>")}</font></td>
      <td><h1>{say.main()}</h1>{say.main()}<br><br>{say.main()} <b>{say.main()}</b> {say.main()}
        {say.paragraphs()}
        <div><div><div><span>{say.main()}</span></div><div>{say.main()} <a href="y">{say.main()}</a></div></div></div>
        <table border=1><tr><td>{say.main()}</td><td>{say.main()}</td></tr></table></td>
      <td><table>{"".join(f"<tr><td>{say.links()}</td></tr>" for _ in range(3))}</table></td></tr></table>
    <center><p>{say.links(" - ")}</p></center></body></html>"""


def documentation_page(say: Sentences) -> str:
    """Return a page as Sphinx writes it: definitions with signatures, side bars, links at every heading."""

    def definition(number: int) -> str:
        return f"""<dl class="py function"><dt class="sig sig-object py" id="m.f{number}">
        <span class="sig-name">{say.main()}</span><span class="sig-paren">(</span>
        <em class="sig-param">{say.main()}</em>
        <span class="sig-paren">)</span><a class="headerlink" href="#m.f{number}">¶</a></dt>
        <dd><p>{say.main()}</p><dl class="field-list"><dt>Parameters</dt><dd><p>{say.main()}</p></dd></dl>
        <div class="admonition note"><p class="admonition-title">{say.main()}</p><p>{say.main()}</p></div></dd></dl>"""

    return f"""<!DOCTYPE html><html lang="en"><head><title>Docs</title></head><body>
    <div class="related" role="navigation"><h3>{say.menu()}</h3><ul>{say.items()}</ul></div>
    <div class="document"><div class="documentwrapper"><div class="bodywrapper"><div class="body" role="main">
      <section id="cookies"><h1>{say.main()}<a class="headerlink" href="#cookies">¶</a></h1>{say.paragraphs()}
      <div class="highlight-python"><div class="highlight"><pre><span></span><span class="k">{say.main()}</span>
</pre></div></div>{definition(1)}{definition(2)}
      <section id="share"><h2>{say.main()}</h2><aside class="topic"><p>{say.main()}</p></aside>
      <table class="docutils"><tbody><tr><td><p>{say.main()}</p></td><td><p>{say.main()}</p></td></tr></tbody></table>
      <ul class="simple"><li><p>{say.main()}</p></li></ul></section></section></div></div></div>
    <div class="sphinxsidebar" role="navigation"><div><h4>{say.menu()}</h4><ul>{say.items()}</ul>
      <div id="searchbox" role="search"><h3>{say.menu()}</h3></div></div></div></div>
    <div class="related"><ul>{say.items()}</ul></div><div class="footer">© {say.banner()}</div></body></html>"""


def read(html: str | bytes) -> ParsedDocument:
    data = html.encode() if isinstance(html, str) else html
    (document,) = read_html(data, Context(name="a.html", parsing=Parsing(), limits=Limits()))
    return document


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("page", [modern_page, old_page, documentation_page])
def test_of_a_page_all_of_its_text_is_kept_in_order_and_nothing_around_it(
    page: Callable[[Sentences], str], seed: int
) -> None:
    say = Sentences(seed)
    text = " ".join(read(page(say)).laid_out()[0].split())
    assert [sentence for sentence in say.kept if sentence not in text] == []
    assert [sentence for sentence in say.dropped if sentence in text] == []
    places = [text.index(sentence) for sentence in say.kept]
    assert places == sorted(places)


def test_a_page_s_blocks_have_the_shape_of_what_they_show() -> None:
    html = """<html lang="de"><head><title>A title</title></head><body>
    <h1>Top <a class="headerlink" href="#x">¶</a></h1>
    <p>One <a href="http://example.com">link</a>,<br>two<br><br>lines &amp; more</p><h3>Deep</h3>
    <ul><li>first<ul><li>inner</li></ul></li></ul><table><tr><th>A</th><th>B</th></tr><tr><td>1</td><td>2</td></tr></table>
    <pre>def f():\n    return 1\n</pre></body></html>"""
    document = read(html)
    assert (document.title, document.language) == ("A title", "de")
    assert document.blocks == (
        Block(text="Top", level=1),
        Block(text="One link,\ntwo"),
        Block(text="lines & more"),
        Block(text="Deep", level=3),
        Block(text="first", shape=Shape.LINE),
        Block(text="inner", shape=Shape.LINE),
        Block(text="A | B", shape=Shape.LINE),
        Block(text="1 | 2", shape=Shape.LINE),
        Block(text="def f():\n    return 1\n", shape=Shape.CODE),
    )


def test_a_page_of_nothing_but_links_is_about_what_they_say() -> None:
    items = "".join(f'<li><a href="{i}.html">chapter {i}</a></li>' for i in range(9))
    assert "chapter 8" in read(f"<html><body><ul>{items}</ul></body></html>").laid_out()[0]


def test_a_page_without_a_title_is_called_by_its_heading() -> None:
    assert read("<body><h1>The <b>name</b></h1><p>and more</p>").title == "The name"


@pytest.mark.parametrize("opening", ["<div>", "<section><div class='a'>", "<table><tr><td>", "<b>", "<ul><li>"])
def test_a_page_nested_a_hundred_thousand_deep_gives_its_text(opening: str) -> None:
    html = f"<html><body><p>left</p>{opening * 100_000}in the middle<p>right</p>"
    assert {"left", "in the middle", "right"} <= {block.text for block in read(html).blocks}


@pytest.mark.parametrize(
    ("encoding", "declared"),
    [
        ("utf-8", ""),
        ("utf-8", '<meta charset="iso-8859-1">'),
        ("cp1252", ""),
        ("shift_jis", '<meta charset="Shift_JIS">'),
    ],
)
def test_a_page_s_encoding_is_what_its_bytes_are_or_else_what_it_declares(encoding: str, declared: str) -> None:
    text = "東京都は大きい" if encoding == "shift_jis" else "Größe über alles, für heute"
    assert read(f"<html><head>{declared}</head><body><p>{text}</p>".encode(encoding)).laid_out()[0] == text


def test_the_html_of_a_message_is_all_text() -> None:
    links = "<a href=1>a</a> <a href=2>b</a> <a href=3>c</a>"
    html = f"<div class='header'><p>Hello</p></div><script>x</script><div>{links}</div>"
    assert [block.text for block in blocks_of_html(html)] == ["Hello", "a b c"]
