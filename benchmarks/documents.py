"""Real HTML documents: the pages that pydoc makes of Python's standard library, then of packages that are pinned here.

    PYTHONHASHSEED=0 python benchmarks/documents.py FOLDER COUNT

Writes COUNT pages to FOLDER/html, and to FOLDER/text what Reindex's own parser reads in each of them. The same
environment makes the same documents; `write_documents` does it in a process of its own, since every module is imported.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from itertools import chain, islice
from pathlib import Path

from reindex.parse import read_object
from reindex.sample_corpus import html_page, modules_of, standard_modules
from reindex.settings import Limits, Parsing

PACKAGES = ("numpy", "pydantic", "httpx", "rich", "pyarrow", "boto3", "typer", "pathspec")
# Characters of text: the longest pages would make half of the corpus, the shortest say nothing.
SHORTEST, LONGEST = 200, 30_000


def write_documents(folder: Path, count: int) -> list[Path]:
    """Write the documents and return the HTML pages, in the order in which they were chosen."""
    words = [sys.executable, __file__, str(folder), str(count)]
    subprocess.run(words, env={**os.environ, "PYTHONHASHSEED": "0"}, stdout=subprocess.DEVNULL, check=True)
    return sorted((folder / "html").iterdir())


def text_of(page: Path) -> str:
    return (page.parent.parent / "text" / f"{page.stem}.txt").read_text(encoding="utf-8")


def fitting_pages() -> Iterator[tuple[str, str, str]]:
    """Yield the name, the HTML and the text of each module's page that is neither too short nor too long."""
    for module in chain(standard_modules(), chain.from_iterable(map(modules_of, PACKAGES))):
        page = html_page(module)
        text = read_text(page)
        if SHORTEST <= len(text) <= LONGEST:
            yield module.__name__, page, text


def read_text(page: str) -> str:
    documents = read_object("page.html", page.encode(), Parsing(), Limits()).documents
    return "\n\n".join(document.laid_out()[0] for document in documents)


def main() -> None:
    folder, count = Path(sys.argv[1]), int(sys.argv[2])
    for kind in ("html", "text"):
        (folder / kind).mkdir(parents=True)
    chosen = list(islice(fitting_pages(), count))
    for number, (name, page, text) in enumerate(chosen):
        stem = f"{number:04}-{name}"
        (folder / "html" / f"{stem}.html").write_text(page, encoding="utf-8")
        (folder / "text" / f"{stem}.txt").write_text(text, encoding="utf-8")
    if len(chosen) < count:
        raise SystemExit(f"this environment documents {len(chosen)} modules, not {count}")


if __name__ == "__main__":
    main()
