"""Every link within the clone leads somewhere: `python docs/links.py` looks at README.md, other texts and the prose of the notebooks.

`dead` does the same for the pages of a site. Links to other hosts are not followed.
"""
import sys
from functools import cache
from pathlib import Path
from urllib.parse import unquote, urlsplit

import lxml.html
import nbformat
from markdown_it import MarkdownIt
from mdit_py_plugins.anchors import anchors_plugin

ROOT = Path(__file__).resolve().parents[1]
TEXTS = ['README.md', 'CONTRIBUTING.md', 'data/README.md', 'reports/README.md']
READABLE = ('.html', '.md', '.ipynb')


def rendered(text: str) -> str:
    "Markdown as HTML; headings have the anchors that GitHub gives them."
    return MarkdownIt('commonmark').enable('table').use(anchors_plugin, max_level=6).render(text)

@cache
def tree(path: Path):
    "The elements of a page, a text or the prose of a notebook."
    text = path.read_text(encoding='utf-8')
    if path.suffix == '.ipynb':
        cells = nbformat.reads(text, as_version=4).cells
        text = '\n\n'.join(cell.source for cell in cells if cell.cell_type == 'markdown')
    return lxml.html.document_fromstring(text if path.suffix == '.html' else rendered(text) or '<p>')

@cache
def anchors(path: Path) -> set[str]:
    "What a link may name behind `#`."
    return {'', 'top', *tree(path).xpath('//@id'), *tree(path).xpath('//a/@name')}

def problem(link: str, path: Path, inside: Path) -> str:
    "What is wrong with a link of a page, if anything."
    url = urlsplit(link)
    if url.scheme or url.netloc: return ''
    target = (path.parent / unquote(url.path)).resolve() if url.path else path
    if target.is_dir() and path.suffix == '.html': target /= 'index.html'
    if not target.is_relative_to(inside): return 'leads outside'
    if not target.exists(): return 'no such file'
    lost = target.suffix in READABLE and unquote(url.fragment) not in anchors(target)
    return 'no such anchor' if lost else ''

def dead(paths: list[Path], inside: Path) -> list[str]:
    "Links that lead nowhere or out of a folder, each with its page and what is wrong."
    inside = inside.resolve()
    lines = []
    for path in sorted(path.resolve() for path in paths):
        links = sorted({link for _, _, link, _ in tree(path).iterlinks()})
        wrong = {link: problem(link, path, inside) for link in links}
        lines += [f'{path.relative_to(inside)}: {link}: {text}' for link, text in wrong.items() if text]
    return lines

def sources() -> list[Path]:
    "The texts and the notebooks of the clone."
    names = [path for path in (ROOT / 'nbs').rglob('*.ipynb') if '.ipynb_checkpoints' not in path.parts]
    return [*names, *(ROOT / name for name in TEXTS)]

def main() -> int:
    lines = dead(sources(), ROOT)
    if lines: print('links that lead nowhere:', *lines, sep='\n')
    return int(bool(lines))

if __name__ == '__main__': sys.exit(main())
