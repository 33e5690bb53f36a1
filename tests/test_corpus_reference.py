"""docs/corpus.md is what the settings say."""

from __future__ import annotations

import re

from reindex.corpus_reference import corpus_reference
from reindex.settings import PROJECT

PAGE = (PROJECT / "docs" / "corpus.md").read_text(encoding="utf-8")


def test_the_page_is_what_the_settings_say() -> None:
    assert corpus_reference() == PAGE, "write it anew: make reference"


def test_every_key_says_what_it_is() -> None:
    assert re.findall(r"^\| `.*\|\s*\|$", PAGE, re.MULTILINE) == []
