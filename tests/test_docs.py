"""What the site stands on: annotations that can be shown where they stand, and a look at links that misses none."""
import ast, builtins, importlib.util, sys
from pathlib import Path

import pytest

from house_rules import exported_cells, notebooks

ROOT = Path(__file__).resolve().parents[1]

spec = importlib.util.spec_from_file_location('links', ROOT / 'docs' / 'links.py')
links = importlib.util.module_from_spec(spec)
sys.modules['links'] = links
spec.loader.exec_module(links)


def names_in(text: str) -> set[str]:
    "The names of an annotation that is written as a string."
    return {node.id for node in ast.walk(ast.parse(text, mode='eval')) if isinstance(node, ast.Name)}

def bound(tree: ast.Module) -> set[str]:
    "The names that a cell defines, assigns or imports at its top."
    names = set()
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef): names.add(node.name)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            names |= {(alias.asname or alias.name).split('.')[0] for alias in node.names}
        elif isinstance(node, ast.Assign):
            names |= {target.id for target in node.targets if isinstance(target, ast.Name)}
    return names

def signature_annotations(node) -> list:
    "The annotations that the documentation of a function or a class shows: a class by its fields and its `__init__`."
    if isinstance(node, ast.FunctionDef):
        arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
        return [argument.annotation for argument in arguments] + [node.returns]
    if not isinstance(node, ast.ClassDef): return []
    fields = [inner.annotation for inner in node.body if isinstance(inner, ast.AnnAssign)]
    starts = [inner for inner in node.body if isinstance(inner, ast.FunctionDef) and inner.name == '__init__']
    return fields + [annotation for start in starts for annotation in signature_annotations(start)]

def too_early(cells: list[str]) -> list[str]:
    "String annotations with names that no cell so far has defined."
    names = set(dir(builtins))
    wrong = []
    for source in cells:
        tree = ast.parse(source)
        names |= bound(tree)
        shown = [annotation for node in tree.body for annotation in signature_annotations(node)]
        texts = [annotation.value for annotation in shown if isinstance(annotation, ast.Constant) and isinstance(annotation.value, str)]
        wrong += [text for text in texts if names_in(text) - names]
    return wrong


@pytest.mark.parametrize('path', notebooks(), ids=lambda path: path.relative_to(ROOT).as_posix())
def test_annotations_look_back(path):
    "nbdev documents a definition right behind its cell: a class that comes later cannot be named there."
    wrong = too_early(exported_cells(path))
    assert not wrong, f'{path.relative_to(ROOT)}: annotations that name what is defined later: {wrong}'


def test_an_annotation_that_looks_ahead_is_seen():
    later = ["class A:\n    b: 'B'", "def f(a: 'A') -> 'A | None': return a", 'class B: pass', "def g(b: 'B'): return b"]
    assert too_early(later) == ['B']
    assert too_early(["class C:\n    def __init__(self, other: 'D'): self.other = other\n    def later(self) -> 'E': pass"]) == ['D']


@pytest.fixture
def site(tmp_path):
    "Two pages and a picture, all links good."
    (tmp_path / 'room').mkdir()
    (tmp_path / 'picture.png').write_bytes(b'')
    (tmp_path / 'index.html').write_text('<h1 id="top-of-it">x</h1><a href="room/page.html#caf%C3%A9">y</a><a href="#top-of-it">z</a>'
                                         '<img src="picture.png"><a href="https://example.org/nowhere#x">far</a><a href="#">up</a>')
    (tmp_path / 'room' / 'page.html').write_text('<meta charset="utf-8"><p id="café"><a href="../index.html#top-of-it">back</a>')
    return tmp_path

def dead(folder) -> list[str]:
    links.tree.cache_clear()
    links.anchors.cache_clear()
    return links.dead(list(folder.rglob('*.*')) if folder.suffix else [*folder.rglob('*.html'), *folder.rglob('*.md')], folder)

def test_good_links_pass(site): assert dead(site) == []

@pytest.mark.parametrize(('old', 'new', 'problem'), [
    ('room/page.html#', 'room/pages.html#', 'no such file'), ('caf%C3%A9', 'cafe', 'no such anchor'), ('"#top-of-it"', '"#top"', ''),
    ('"#top-of-it"', '"#Top-of-it"', 'no such anchor'), ('"picture.png"', '"pictures.png"', 'no such file'),
    ('"picture.png"', '"../picture.png"', 'leads outside'), ('"picture.png"', '"file with blank.png"', 'no such file')])
def test_a_broken_link_is_named(site, old, new, problem):
    text = (site / 'index.html').read_text()
    assert old in text
    (site / 'index.html').write_text(text.replace(old, new))
    lines = dead(site)
    assert len(lines) == bool(problem) and all(line.startswith('index.html: ') and line.endswith(problem) for line in lines)


def test_headings_of_markdown_are_anchors(tmp_path):
    (tmp_path / 'a.md').write_text('# What it *does*\n\n## `x.y`, twice\n\n[a](#what-it-does) [b](#xy-twice) [c](b.md#no) <a href="lost.md">d</a>')
    (tmp_path / 'b.md').write_text('```\n[no link](nowhere.md)\n```\n\n![picture](lost.png)')
    assert dead(tmp_path) == ['a.md: b.md#no: no such anchor', 'a.md: lost.md: no such file', 'b.md: lost.png: no such file']


def test_readme_and_notebooks_are_looked_at():
    paths = {path.relative_to(ROOT).as_posix() for path in links.sources()}
    assert {'README.md', 'CONTRIBUTING.md', 'data/README.md', 'nbs/index.ipynb'} <= paths
    assert any(link for _, _, link, _ in links.tree(ROOT / 'nbs' / 'index.ipynb').iterlinks() if link.startswith('lab/'))
