"""Writes the sample corpus: the documentation that every CPython carries, as Markdown, text and HTML.

`python -m reindex.sample_corpus FOLDER`. The language reference's topics become Markdown; the documentation of each
module of the standard library becomes text or, for every third, HTML.
"""

from __future__ import annotations

import importlib
import io
import pkgutil
import pydoc
import re
import sys
import warnings
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from pydoc_data.topics import topics
from types import ModuleType

# They open a browser, draw, print poems, test Python itself, or install it.
_LEFT_OUT = {"antigravity", "this", "idlelib", "lib2to3", "test", "tkinter", "turtle", "turtledemo", "ensurepip"}
_ADDRESS = re.compile(r"(?: |&nbsp;)at(?: |&nbsp;)0x[0-9a-f]+")
_UNDERLINED = re.compile(r"^(?P<title>\S.*)\n(?P<mark>[*=\-~^])(?P=mark){2,}$", re.MULTILINE)
_LEVELS = {"*": "#", "=": "##", "-": "###", "~": "####", "^": "#####"}
_HTML_EVERY = 3
# Keeps the sample to what a laptop embeds in a minute or two: a few modules would make half of it.
_MAX_CHARACTERS = 25_000
_MAX_CHARACTERS_INSIDE_PACKAGES = 6_000


def write_sample_corpus(folder: Path) -> int:
    """Write the documents below a folder and return how many there are.

    With PYTHONHASHSEED fixed, nearly all of them come out the same each time: some modules show sets, a few the
    process that imported them.
    """
    documents = {f"topics/{name}.md": _as_markdown(text) for name, text in topics.items()}
    texts = {module: pydoc.plain(pydoc.render_doc(module)) for module in standard_modules()}
    short = {module: text for module, text in texts.items() if len(text) <= _limit(module)}
    for number, (module, text) in enumerate(short.items()):
        if number % _HTML_EVERY == 0:
            documents[f"modules/{module.__name__}.html"] = html_page(module)
        else:
            documents[f"modules/{module.__name__}.txt"] = text
    for path, text in documents.items():
        file = folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(_ADDRESS.sub("", text), encoding="utf-8")
    return len(documents)


def _limit(module: ModuleType) -> int:
    return _MAX_CHARACTERS_INSIDE_PACKAGES if "." in module.__name__ else _MAX_CHARACTERS


def standard_modules() -> list[ModuleType]:
    """Return the modules of the standard library that can be imported here, those of packages after all others."""
    names = sorted(name for name in sys.stdlib_module_names if not name.startswith("_") and name not in _LEFT_OUT)
    modules = [module for name in names if (module := _imported(name))]
    return modules + [inner for module in modules for inner in _submodules(module)]


def modules_of(name: str) -> list[ModuleType]:
    """Return a package and the public modules in it; nothing if it is not there."""
    package = _imported(name)
    return [package, *_submodules(package)] if package else []


def _submodules(package: ModuleType) -> list[ModuleType]:
    found = pkgutil.iter_modules(getattr(package, "__path__", []), f"{package.__name__}.")
    names = [name for _, name, _ in found if "._" not in name and ".test" not in name]
    return [module for name in names if (module := _imported(name))]


def _imported(name: str) -> ModuleType | None:
    """Import a module quietly; one that this machine cannot import has no documentation to show."""
    with warnings.catch_warnings(), redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
        warnings.simplefilter("ignore")
        try:
            return importlib.import_module(name)
        except (ImportError, OSError, AttributeError):
            return None


def _as_markdown(text: str) -> str:
    return _UNDERLINED.sub(lambda found: f"{_LEVELS[found['mark']]} {found['title']}", text)


def html_page(module: ModuleType) -> str:
    """Return a module's documentation as pydoc shows it, without the addresses of objects."""
    body = pydoc.html.document(module, module.__name__)
    return _ADDRESS.sub("", pydoc.html.page(f"Python: module {module.__name__}", body))


if __name__ == "__main__":
    print(f"{write_sample_corpus(Path(sys.argv[1]))} documents written to {sys.argv[1]}")  # noqa: T201 - its answer
