from __future__ import annotations

import pytest

from reindex.parse import read_object
from reindex.parsers.encodings import as_text
from reindex.records import Block, ParsedDocument, Shape
from reindex.settings import Limits, Parsing

WRITTEN = {
    "cp1252": "Le garçon a déjà mangé à l'hôtel. Où est la forêt ? Größe über alles.",
    "cp932": "これは日本語の文章です。解析を試験するために書かれました。東京都は大きいです。",
    "euc_jp": "これは日本語の文章です。解析を試験するために書かれました。東京都は大きいです。",
    "iso2022_jp": "これは日本語の文章です。解析を試験するために書かれました。",
    "gb18030": "这是一个用于测试解析的中文文件。我们希望它能够正确地被识别出来。",
    "big5": "這是一個用於測試解析的中文文件。我們希望它能夠正確地被識別出來。",
    "cp949": "이것은 구문 분석을 시험하기 위한 한국어 문서입니다. 제대로 인식되기를 바랍니다.",
    "cp1251": "Это русский текст, написанный для проверки разбора. Надеемся, что он распознаётся.",
    "koi8_r": "Это русский текст, написанный для проверки разбора. Надеемся, что он распознается.",
    "cp1250": "Příliš žluťoučký kůň úpěl ďábelské ódy. Žádost o změnu smlouvy byla doručena.",
    "cp1253": "Αυτό είναι ένα ελληνικό κείμενο για δοκιμή της ανάλυσης.",
    "cp1254": "Bu, ayrıştırmayı denemek için yazılmış Türkçe bir metindir. Şüphesiz güzel.",
    **dict.fromkeys(["utf-8", "utf-8-sig", "utf-16", "utf-32"], "Größe, 大きい и ещё 🧭"),
    **dict.fromkeys(["utf-16-le", "utf-16-be"], "Grüße aus Köln\n"),
}
MARKDOWN = b"""---
title: "Front title"
---
# A *heading*

Text with a [link](http://example.com), `code`, ![a picture](a.png) and **bold**<br>words
that go on &amp; on.

- item **a**
  - inner

1. one

| A | B |
|---|---|
| 1 | [two](x) |

```python
def f():

    return 1
```

<p align="center">Centred <img src="x"></p>

Below
-----
> quoted
"""
RST = b"""=========
The title
=========

.. contents::

Text with *emphasis*, ``code``, :py:func:`~json.loads` and `a link <http://example.com>`_ [1]_.

Part
----

* item one
  goes on
* item two

.. note::
   Be careful.

.. code-block:: python
   :linenos:

   def f():

       return 1

So::

    $ ls

.. function:: dump(obj)

   Writes.

.. raw:: html

   <b>no text</b>

.. a comment
   of two lines

=====  =====
a      b
=====  =====
1      2
=====  =====

>>> 1 + 1
2

.. include:: /etc/passwd
.. [1] The note.
"""


def read(name: str, data: bytes) -> ParsedDocument:
    (document,) = read_object(name, data, Parsing(), Limits()).documents
    return document


def code(text: str) -> Block:
    return Block(text=text, shape=Shape.CODE)


def line(text: str) -> Block:
    return Block(text=text, shape=Shape.LINE)


@pytest.mark.parametrize("encoding", WRITTEN)
def test_text_is_read_in_every_common_encoding(encoding: str) -> None:
    assert as_text(WRITTEN[encoding].encode(encoding)) == WRITTEN[encoding]


def test_one_bad_byte_does_not_make_a_long_text_another_encoding() -> None:
    text = as_text("é".encode() * 300 + b"\xff" + "é".encode() * 300)
    assert text == "é" * 300 + "\ufffd" + "é" * 300


def test_a_paragraph_of_plain_text_ends_at_a_blank_line() -> None:
    blocks = read("a.txt", b"  one\r\ntwo\r\n \t\r\nthree\r").blocks
    assert [block.text for block in blocks] == ["  one\ntwo", "three"]


def test_markdown_leaves_nothing_of_its_own() -> None:
    document = read("a.md", MARKDOWN)
    assert document.title == "Front title"
    assert document.blocks == (
        Block(text="A heading", level=1),
        Block(text="Text with a link, code,  and bold\nwords that go on & on."),
        line("item a"),
        line("inner"),
        line("one"),
        line("A | B"),
        line("1 | two"),
        code("def f():\n\n    return 1\n"),
        Block(text="Centred"),
        Block(text="Below", level=2),
        Block(text="quoted"),
    )


def test_restructured_text_leaves_nothing_of_its_own_and_reads_no_other_file() -> None:
    document = read("a.rst", RST)
    assert document.title == "The title"
    assert document.blocks == (
        Block(text="The title", level=1),
        Block(text="Text with emphasis, code, json.loads and a link."),
        Block(text="Part", level=2),
        line("item one goes on"),
        line("item two"),
        Block(text="Be careful."),
        code("def f():\n\n    return 1\n"),
        Block(text="So:"),
        code("$ ls\n"),
        Block(text="dump(obj)"),
        Block(text="Writes."),
        line("a | b"),
        line("1 | 2"),
        code(">>> 1 + 1\n2\n"),
        Block(text="The note."),
    )
