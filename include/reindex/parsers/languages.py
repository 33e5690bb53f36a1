"""A document's language: what its text shows, or else what it says of itself."""

from __future__ import annotations

import re
from collections.abc import Iterator

from reindex.records import ParsedDocument, Shape

# Enough to tell languages apart, and the least.
_SAMPLE_CHARACTERS, _FEWEST_WORDS = 4_000, 10
_WORD = re.compile(r"[\u0e00-\u0eff\u1000-\u109f\u2e80-\u9fff]|\b[^\W\d_]{2,}\b")
_MIN_CONFIDENCE = 0.5
# Of ISO 639-1, with the codes of ISO 639-3 that a detection gives.
_PAIRS = """
    af:afr am:amh ar:ara az:aze be:bel bg:bul bn:ben ca:cat cs:ces cy:cym da:dan de:deu el:ell en:eng eo:epo
    es:spa et:est eu:eus fa:pes fi:fin fr:fra ga:gle gl:glg gu:guj he:heb hi:hin hr:hrv hu:hun hy:hye id:ind
    is:isl it:ita ja:jpn ka:kat kk:kaz km:khm kn:kan ko:kor la:lat lt:lit lv:lav mk:mkd ml:mal mn:mon mr:mar
    ms:msa my:mya nb:nob ne:nep nl:nld nn:nno no:nob or:ori pa:pan pl:pol pt:por ro:ron ru:rus si:sin sk:slk
    sl:slv sq:sqi sr:srp sv:swe sw:swa ta:tam te:tel th:tha tk:tuk tl:tgl tr:tur uk:ukr ur:urd uz:uzb vi:vie
    yi:yid zh:cmn zu:zul
"""
_CODES = dict(pair.split(":") for pair in _PAIRS.split())


def language_of(document: ParsedDocument) -> str:
    """Return the code of ISO 639-3, or an empty text where nothing tells."""
    # Templates declare the language of whoever made them, so the text comes first.
    return _shown("\n".join(_sample(document))) or _declared(document.language)


def _declared(tag: str) -> str:
    """Return the code of a tag as `de`, `de-AT` or `deu`."""
    code = tag.strip().lower().replace("_", "-").split("-")[0]
    return code if code in _CODES.values() else _CODES.get(code, "")


def _sample(document: ParsedDocument) -> Iterator[str]:
    """Yield text from the beginning, without code, until it is enough."""
    left = _SAMPLE_CHARACTERS
    for block in document.blocks:
        if block.shape is not Shape.CODE:
            yield block.text[:left]
            left -= len(block.text)
        if left <= 0:
            return


def _shown(text: str) -> str:
    if len({found.lower() for found in _WORD.findall(text)}) < _FEWEST_WORDS:
        return ""
    from kreuzberg import ExtractionConfig, LanguageDetectionConfig, extract_bytes_sync

    detection = LanguageDetectionConfig(enabled=True, min_confidence=_MIN_CONFIDENCE)
    config = ExtractionConfig(use_cache=False, disable_ocr=True, language_detection=detection)
    found = extract_bytes_sync(text.encode(errors="replace"), "text/plain", config=config).detected_languages
    return str(found[0]) if found else ""
