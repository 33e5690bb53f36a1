"""A transcript in (VTT, SRT or SBV), what was said out: who said it and when, in sentences rather than in cues."""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from reindex.parsers import Context, Rejected
from reindex.parsers.text import decoded
from reindex.records import Block, ParsedDocument, RejectReason, Shape

_MOMENT = r"(?:(\d{1,4}):)?(\d{1,2}):(\d{2})[.,](\d{1,3})"
# SBV has a comma where the others have an arrow.
_CUE = re.compile(rf"\s*{_MOMENT}\s*(?:-->|,)\s*{_MOMENT}(?:\s.*)?")
_VOICE = re.compile(r"<v(?:\.[^\s>]*)?\s+([^>]*)>")
# Speakers, styles, times of single words, and where SRT puts a line on the screen.
_TAG = re.compile(r"</?[a-zA-Z][^<>]*>|<[\d:.]+>|\{\\[^}]*\}")
_SPEAKER = re.compile(r"([^\W\d_][^\s:]*(?: [^\s:]+){0,3}):\s+(?=\S)")
_NEXT_SPEAKER = re.compile(r"(?:>>|[-\u2013\u2014])\s*(?=\S)")
_SENTENCE_END = re.compile(r"[.!?…。！？][\"')\]»”]*$")  # noqa: RUF001 - as Chinese and Japanese end theirs
_LONGEST_BLOCK = 300
# Captions that roll up repeat a line in the next cue, which begins as this one ends.
_ROLLING_SECONDS = 0.1
_TITLE = re.compile(r"\ufeff?WEBVTT\s*-\s*(\S.*)")


@dataclass(frozen=True, slots=True)
class _Cue:
    start: float
    end: float
    lines: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Turn:
    """What one speaker says; the name is empty where the transcript does not say, and so where the same goes on."""

    start: float
    speaker: str
    words: str
    is_new: bool


def read_transcript(data: bytes, context: Context) -> Iterator[ParsedDocument]:  # noqa: ARG001 - as all parsers are called
    """Yield the transcript, each block under the time at which it begins."""
    text = decoded(data)
    cues = list(_cues(text.splitlines()))
    if not cues:
        raise Rejected(RejectReason.EMPTY, "the transcript has no cue with a time code")
    title = _TITLE.match(text)
    blocks = tuple(_blocks(turn for cue in _once(cues) for turn in _turns(cue)))
    yield ParsedDocument(title=title[1].strip() if title else "", blocks=blocks)


def _cues(lines: Iterable[str]) -> Iterator[_Cue]:
    """Yield the cues; what stands outside them is for programs: numbers, styles, notes."""
    found: tuple[float, float] | None = None
    words: list[str] = []
    for line in [*lines, ""]:
        timing = _CUE.fullmatch(line)
        if found and (timing or not line.strip()):
            yield _Cue(*found, tuple(words))
            found, words = None, []
        if timing:
            numbers = timing.groups()
            found = (_seconds(*numbers[:4]), _seconds(*numbers[4:]))
        elif found:
            words += line.replace("[br]", "\n").splitlines()


def _seconds(hours: str | None, minutes: str, seconds: str, fraction: str) -> float:
    return int(hours or 0) * 3600 + int(minutes) * 60 + int(seconds) + float(f"0.{fraction}")


def _once(cues: Iterable[_Cue]) -> Iterator[_Cue]:
    """Yield the cues without what the one before showed already."""
    shown: tuple[str, ...] = ()
    until = 0.0
    for cue in cues:
        lines = tuple(line for line in cue.lines if _plain(line))
        is_rolling = abs(cue.start - until) <= _ROLLING_SECONDS
        yield _Cue(cue.start, cue.end, _without(shown, lines) if is_rolling else lines)
        shown, until = lines, cue.end


def _without(shown: tuple[str, ...], lines: tuple[str, ...]) -> tuple[str, ...]:
    before, now = [_plain(line) for line in shown], [_plain(line) for line in lines]
    same = next((count for count in range(min(len(now), len(before)), 0, -1) if before[-count:] == now[:count]), 0)
    if not same and before and now and now[0].startswith(f"{before[-1]} "):
        return (now[0].removeprefix(before[-1]).strip(), *lines[1:])
    return lines[same:]


def _plain(line: str) -> str:
    return " ".join(html.unescape(_TAG.sub("", line)).split())


def _turns(cue: _Cue) -> Iterator[_Turn]:
    speaker = ""
    for line in cue.lines:
        before, *voices = _VOICE.split(line)
        for named, words in zip(["", *map(_plain, voices[::2])], [before, *voices[1::2]], strict=True):
            turn = _turn(cue.start, named or speaker, _plain(words))
            speaker = turn.speaker
            if turn.words:
                yield turn


def _turn(start: float, speaker: str, words: str) -> _Turn:
    other = _NEXT_SPEAKER.match(words)
    if other:
        speaker, words = "", words[other.end() :]
    named = _SPEAKER.match(words)
    if named and all(word[0].isupper() or word.isdigit() for word in named[1].split()):
        speaker, words = named[1], words[named.end() :]
    return _Turn(start, speaker, words, bool(speaker or other))


def _blocks(turns: Iterable[_Turn]) -> Iterator[Block]:
    """Yield the turns, those of one speaker joined up to the end of a sentence."""
    start, speaker, said = 0.0, "", ""
    for turn in turns:
        goes_on = not turn.is_new or (turn.speaker and turn.speaker == speaker)
        if said and goes_on and len(said) < _LONGEST_BLOCK and not _SENTENCE_END.search(said):
            said += f" {turn.words}"
            continue
        if said:
            yield _block(start, speaker, said)
        start, speaker, said = turn.start, turn.speaker, turn.words
    if said:
        yield _block(start, speaker, said)


def _block(start: float, speaker: str, said: str) -> Block:
    minutes, seconds = divmod(int(start), 60)
    time = f"{minutes // 60:02}:{minutes % 60:02}:{seconds:02}"
    return Block(text=f"{speaker}: {said}" if speaker else said, shape=Shape.LINE, time=time)
