from __future__ import annotations

import pytest

from reindex.parsers import Context, Rejected
from reindex.parsers.transcripts import read_transcript
from reindex.records import ParsedDocument, Shape
from reindex.settings import Limits, Parsing

VTT = """WEBVTT - A talk

NOTE for programs

STYLE
::cue { color: red }

1
00:01.000 --> 00:04.000 align:start position:0%
<v Ann>Good <i>morning</i> &amp;

00:04.000 --> 00:06.500
<v Ann>welcome all.

00:07.000 --> 00:09.000
<v Bob>Thank you.</v> <v Ann>Now
to the news.
"""
SRT = """1
00:00:01,000 --> 00:00:04,000
ANN: {\\an8}Good <font color="red">morning</font>,

2
00:00:05,000 --> 00:00:06,000
all of you.
BOB: Hello!

3
01:02:03,500 --> 01:02:04,000
- How are you?
- Well: thanks
"""
SBV = """0:00:01.000,0:00:02.000
One sentence[br]in two

0:00:03.000,0:00:04.000
cues
"""
ROLLING = """WEBVTT

00:00.000 --> 00:02.000
first<00:00:00.500><c> line</c>

00:02.000 --> 00:02.010
first line

00:02.010 --> 00:04.000
first line
second line

00:04.000 --> 00:05.000
second line and more

00:09.000 --> 00:10.000
second line and more
"""


def read(text: str | bytes) -> ParsedDocument:
    data = text.encode() if isinstance(text, str) else text
    (document,) = read_transcript(data, Context(name="a.vtt", parsing=Parsing(), limits=Limits()))
    return document


def lines(text: str) -> list[tuple[str, str]]:
    return [(block.time, block.text) for block in read(text).blocks]


def test_who_speaks_and_when_is_kept_and_sentences_are_whole() -> None:
    assert lines(VTT) == [
        ("00:00:01", "Ann: Good morning & welcome all."),
        ("00:00:07", "Bob: Thank you."),
        ("00:00:07", "Ann: Now to the news."),
    ]


def test_a_transcript_may_have_a_title() -> None:
    assert read(VTT).title == "A talk"
    assert read(SRT).title == ""


def test_speakers_may_be_named_in_the_text_or_told_apart_by_dashes() -> None:
    assert lines(SRT) == [
        ("00:00:01", "ANN: Good morning, all of you."),
        ("00:00:05", "BOB: Hello!"),
        ("01:02:03", "How are you?"),
        ("01:02:03", "Well: thanks"),
    ]


def test_the_cues_of_youtube_are_read() -> None:
    assert lines(SBV) == [("00:00:01", "One sentence in two cues")]


def test_captions_that_roll_up_say_everything_once() -> None:
    assert lines(ROLLING) == [("00:00:00", "first line second line and more second line and more")]


def test_a_long_speech_without_a_stop_is_cut_all_the_same() -> None:
    cues = (f"00:00:{second:02}.000 --> 00:00:{second:02}.900\n{f'words{second} ' * 8}\n" for second in range(20))
    blocks = read("\n".join(["WEBVTT\n", *cues])).blocks
    assert [block.time for block in blocks] == ["00:00:00", "00:00:06", "00:00:12", "00:00:17"]
    assert {block.shape for block in blocks} == {Shape.LINE}


def test_a_file_with_a_byte_order_mark_and_windows_lines_is_read() -> None:
    document = read(b"\xef\xbb\xbf" + VTT.replace("\n", "\r\n").encode())
    assert (document.title, len(document.blocks)) == ("A talk", 3)


@pytest.mark.parametrize("text", ["WEBVTT\n\nNOTE nothing was said\n", "1\nwords without a time\n", ""])
def test_a_file_without_a_cue_is_rejected(text: str) -> None:
    with pytest.raises(Rejected, match="no-text: the transcript has no cue"):
        read(text)
