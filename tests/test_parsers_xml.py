from __future__ import annotations

import pytest

from reindex.parsers import Context, Rejected
from reindex.parsers.xml import read_xml
from reindex.records import ParsedDocument
from reindex.settings import Limits, Parsing


def read(text: str | bytes) -> ParsedDocument:
    data = text.encode() if isinstance(text, str) else text
    (document,) = read_xml(data, Context(name="a.xml", parsing=Parsing(), limits=Limits()))
    return document


def test_an_element_that_runs_on_around_others_is_a_paragraph() -> None:
    document = read('<doc><p>One <b kind="x">bold</b>\n word.</p><!-- no --><p>Two.</p></doc>')
    assert document.laid_out()[0] == "One bold word.\n\nTwo."


def test_records_are_read_by_the_names_of_their_fields_and_stand_apart() -> None:
    people = (
        "<people><person><name>Ann</name><city>Paris</city></person><person><name>Bob</name><age/></person></people>"
    )
    assert read(people).laid_out()[0] == "name: Ann\ncity: Paris\n\nname: Bob"


def test_a_list_s_items_are_lines() -> None:
    assert read("<list><item>left</item><item>right</item></list>").laid_out()[0] == "left\nright"


def test_titles_begin_sections_as_deep_as_they_lie() -> None:
    book = "<book xmlns='urn:b'><title>B</title><part><title>P</title><p>left</p><p>right</p></part></book>"
    document = read(book)
    assert document.title == "B"
    assert [(block.level, block.text) for block in document.blocks] == [(1, "B"), (2, "P"), (0, "left"), (0, "right")]


def test_a_feed_is_read_item_by_item() -> None:
    feed = (
        "<rss><channel><title>News</title><item><title>One</title><pubDate>Monday</pubDate>"
        "<description><![CDATA[<p>left</p><p>right</p>]]></description></item></channel></rss>"
    )
    document = read(feed)
    assert document.title == "News"
    assert [(block.level, block.text) for block in document.blocks] == [
        (1, "News"),
        (2, "One"),
        (0, "pubDate: Monday"),
        (0, "left"),
        (0, "right"),
    ]


def test_a_document_s_own_entities_and_encoding_are_read() -> None:
    text = '<?xml version="1.0" encoding="shift_jis"?><!DOCTYPE a [<!ENTITY v "1.2">]><a>日本 &v;</a>'
    assert read(text.encode("shift_jis")).laid_out()[0] == "日本 1.2"


@pytest.mark.parametrize(
    "data",
    [
        '<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/hosts">]><a>&x;</a>',
        '<!DOCTYPE a [<!ENTITY % x SYSTEM "file:///etc/hosts"> %x;]><a>b</a>',
        f'<!DOCTYPE a [<!ENTITY x "{"x" * 100_000}">]><a>{"&x;" * 10_000}</a>',
        "<a>" * 300 + "</a>" * 300,
        "<a>left",
        "",
    ],
)
def test_what_reaches_outside_or_grows_without_end_or_is_broken_is_rejected(data: str) -> None:
    with pytest.raises(Rejected, match="cannot-be-parsed: XML"):
        read(data)
