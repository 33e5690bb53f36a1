from __future__ import annotations

import pytest

from reindex.parsers import Context
from reindex.parsers.code import LANGUAGES, read_code
from reindex.records import Block, Shape
from reindex.settings import Limits, Parsing

PYTHON = '''"""Words."""
import os  # for paths


# What holds.
@decorated(
    1,
)
class Box(Base):
    size = 1

    async def open(self) -> None:
        def inner():
            return 1

        inner()

    lid = 2


def alone():
    return Box(
    )


alone()
'''
# In each language: two definitions, one inside the other where there are such.
SAMPLES = {
    "bash": ("f() {\n  echo 1\n}\ng() {\n  echo 2\n}\n", ["f", "g"]),
    "c": ("struct s {\n  int a;\n};\nstatic int f(int a) {\n  return a;\n}\n", ["struct s", "static int f(int a)"]),
    "cpp": (
        "namespace n {\ntemplate <class T>\nclass A : B {\n  T f() {\n    return 1;\n  }\n};\n}\n",
        ["namespace n", "class A", "T f()"],
    ),
    "csharp": (
        "namespace N {\n  [X]\n  public class A {\n    public int F() {\n      return 1;\n    }\n  }\n}\n",
        ["namespace N", "class A", "int F"],
    ),
    "go": (
        "package m\n\n// H\nfunc (s *S) H(a int) error {\n\treturn nil\n}\n\ntype T struct {\n\ta int\n}\n",
        ["", "func (s *S) H", "type T struct"],
    ),
    "java": (
        "/** A */\n@X\npublic class A extends B {\n  @Y\n  public void f() {\n  }\n}\n",
        ["class A", "void f"],
    ),
    "javascript": (
        "export class A {\n  f() {\n  }\n}\nconst g = () => {\n  return 1\n}\n",
        ["class A", "f", "const g"],
    ),
    "kotlin": ("class A {\n  fun f() {\n  }\n}\n", ["class A", "fun f()"]),
    "lua": ("function a.f()\nend\nlocal function g()\nend\n", ["function a.f", "local function g"]),
    "perl": ("sub f {\n  1;\n}\nsub g {\n  2;\n}\n", ["sub f", "sub g"]),
    "php": ("<?php\nclass A {\n  public function f() {\n  }\n}\n", ["", "class A", "function f"]),
    "python": ("class A:\n    def f(self):\n        pass\n", ["class A", "def f"]),
    "ruby": ("module A\n  class B < C\n    def self.d\n    end\n  end\nend\n", ["module A", "class B", "def self.d"]),
    "rust": (
        "/// S\n#[derive(Debug)]\npub struct S {\n    a: i32,\n}\nimpl D for S {\n    fn f() {\n    }\n}\n",
        ["struct S", "impl D for S", "fn f"],
    ),
    "scala": ("object A {\n  def f = {\n    1\n  }\n}\n", ["object A", "def f"]),
    "swift": ("class A {\n  func f() {\n  }\n}\n", ["class A", "func f"]),
    "tsx": ("function F() {\n  return <a>\n  </a>\n}\n", ["function F"]),
    "typescript": (
        "export namespace N {\n  interface I {\n    a: string\n  }\n}\n",
        ["namespace N", "interface I"],
    ),
}


def read(source: str, name: str) -> tuple[Block, ...]:
    (document,) = read_code(source.encode(), Context(name=name, parsing=Parsing(), limits=Limits()))
    assert document.laid_out()[0] == source
    assert {block.shape for block in document.blocks} == {Shape.CODE}
    return document.blocks


def test_code_is_cut_where_its_definitions_begin_and_where_the_code_around_them_goes_on() -> None:
    found = [(block.level, block.label, block.text.strip().splitlines()[0]) for block in read(PYTHON, "src/a.py")]
    assert found == [
        (0, "", '"""Words."""'),
        (1, "class Box", "# What holds."),
        (2, "async def open", "async def open(self) -> None:"),
        (3, "def inner", "def inner():"),
        (2, "async def open", "inner()"),
        (1, "class Box", "lid = 2"),
        (1, "def alone", "def alone():"),
        (1, "(top level)", "alone()"),
    ]


@pytest.mark.parametrize("suffix", LANGUAGES)
def test_every_language_in_the_table_is_cut_at_its_definitions(suffix: str) -> None:
    source, labels = SAMPLES[LANGUAGES[suffix]]
    assert [block.label for block in read(source, f"a{suffix}")] == labels


@pytest.mark.parametrize("name", ["a.sql", "Dockerfile", "a.toml"])
def test_a_language_without_a_grammar_is_one_piece(name: str) -> None:
    assert len(read("SELECT 1;\n\nSELECT 2;\n", name)) == 1


@pytest.mark.parametrize("source", ["", "\n", "def f(:\n  (\n}\n", "x = 1", "a\x0cb\u2028c\n", PYTHON.rstrip()])
def test_code_comes_out_as_it_was_however_odd_it_is(source: str) -> None:
    read(source, "a.py")


def test_lines_as_windows_ends_them_are_cut_in_the_same_places() -> None:
    context = Context(name="a.py", parsing=Parsing(), limits=Limits())
    (document,) = read_code(PYTHON.replace("\n", "\r\n").encode(), context)
    assert document.blocks == read(PYTHON, "a.py")
