"""Build the site into _docs: by quarto where it is installed, otherwise by Sphinx on the pages that nbdev makes of the notebooks.

Notebooks are not run: their saved outputs are shown. nbdev writes the table of each function's parameters, from the
module that the notebook exports; the source stands folded below it. A warning is an error, and so is a link that leads nowhere.
"""
import argparse, os, posixpath, re, shutil, subprocess, sys
from itertools import groupby
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))      # the modules of this clone, wherever another one is installed

from execnb.nbio import mk_cell, write_nb

from links import dead
from pages import NBS, link_symbols, notebooks, page

PAGES = ROOT / '_proc'
SITE = ROOT / '_docs'
TEXTS = ['CONTRIBUTING.md', 'data/README.md']      # pages that are no notebooks, named from the root
PICTURES = ('.png', '.jpg', '.svg', '.gif')
LINK = re.compile(r'\]\((?![a-z]+:|[#/])([^)#\s]+\.(?:md|ipynb))')
OUTSIDE = re.compile(r'<(?:script|img|iframe|source|video)\b[^>]*?\bsrc=["\']?(?:https?:)?//[^"\'> ]+'
                     r'|<link\b(?![^>]*rel=["\']?canonical)[^>]*?\bhref=["\']?(?:https?:)?//[^"\'> ]+'
                     r'|(?:url\(|@import )["\']?https?://[^"\') ]+')


def part(name: Path) -> str:
    "The heading of the menu under which a page stands."
    return name.parts[0].capitalize() + (': runs' if name.name.startswith('run_') else '')

def contents(names: list[Path]) -> str:
    "The table of contents: a part for the notebooks of each room, one for its runs, one for the other texts."
    parts = [(caption, [name.with_suffix('').as_posix() for name in group])
             for caption, group in groupby((name for name in names if len(name.parts) > 1), part)]
    parts.append(('About', [name.removesuffix('.md') for name in TEXTS]))
    toctree = '```{{toctree}}\n:hidden:\n:maxdepth: 1\n:caption: {}\n\n{}\n```\n\n'
    return ''.join(toctree.format(f'"{caption}"', '\n'.join(group)) for caption, group in parts)

def on_the_site(text: str, name: str) -> str:
    "Links of a text, which lead from its place in the clone, as links to the pages of the site."
    def from_top(match):
        target = posixpath.normpath(posixpath.join(posixpath.dirname(name), match[1]))
        return f'](/{target.removeprefix("nbs/")}'
    return LINK.sub(from_top, text)

def write_pages():
    "The notebooks, texts and pictures of the site, below _proc."
    names = notebooks()
    pages = {}
    for name in names:
        pages[name] = page(name)
        print(f'page {name}', flush=True)
    link_symbols(pages)
    pages[Path('index.ipynb')].cells.append(mk_cell(contents(names), 'markdown'))
    for name, notebook in pages.items():
        for cell in notebook.cells:
            if cell.cell_type == 'markdown': cell.source = on_the_site(cell.source, f'nbs/{name.as_posix()}')
        (PAGES / name).parent.mkdir(parents=True, exist_ok=True)
        write_nb(notebook, PAGES / name)
    for name in TEXTS:
        (PAGES / name).parent.mkdir(parents=True, exist_ok=True)
        (PAGES / name).write_text(on_the_site((ROOT / name).read_text(encoding='utf-8'), name), encoding='utf-8')
    for path in (path for path in NBS.rglob('*') if path.suffix in PICTURES):
        (PAGES / path.relative_to(NBS)).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(path, PAGES / path.relative_to(NBS))

def outside_requests() -> list[str]:
    "What the pages of the site would fetch from other hosts."
    return [f'{path.relative_to(SITE)}: {match[0]}' for path in sorted(SITE.rglob('*')) if path.suffix in ('.html', '.css')
            for match in OUTSIDE.finditer(path.read_text(encoding='utf-8'))]

def by_sphinx() -> int:
    "Build and check the site; the exit code."
    for folder in (PAGES, SITE): shutil.rmtree(folder, ignore_errors=True)
    write_pages()
    # MyST-NB writes a folder of its own beside the site: build out of sight, move what is wanted
    build = PAGES / '_build'
    sphinx = [sys.executable, '-m', 'sphinx', '-q', '-W', '--keep-going', '-b', 'html']
    code = subprocess.run([*sphinx, '-c', ROOT / 'docs', '-d', build / 'doctrees', PAGES, build / 'html']).returncode
    if code: return code
    shutil.move(build / 'html', SITE)
    html = [path for path in SITE.rglob('*.html') if '_static' not in path.parts]
    problems = {'links that lead nowhere:': dead(html, SITE), 'the site would ask other hosts:': outside_requests()}
    for heading, lines in problems.items():
        if lines: print(heading, *lines, sep='\n')
    return int(any(problems.values()))

def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--sphinx', action='store_true', help='by Sphinx, even where quarto is installed')
    options = parser.parse_args()
    os.chdir(ROOT)
    quarto = shutil.which('quarto') and not options.sphinx
    code = subprocess.run([Path(sys.executable).with_name('nbdev_docs')]).returncode if quarto else by_sphinx()
    if code == 0: print(f'Open {SITE / "index.html"}')
    return code

if __name__ == '__main__': sys.exit(main())
