"""Build the site into _docs: by quarto where it is installed, otherwise by Sphinx on the pages that nbdev makes of the notebooks.

Notebooks are not run again: their saved outputs are shown. nbdev runs exported cells, to write the table of each
function's parameters; the source stands folded below it.
"""
import os, re, shutil, subprocess, sys
from concurrent.futures import ProcessPoolExecutor
from itertools import groupby
from multiprocessing import get_context
from pathlib import Path

from execnb.nbio import read_nb, write_nb

from pages import NBS, PAGES, ROOT, notebooks, page

SITE = ROOT / '_docs'
OUTSIDE = re.compile(r'<(?:script|img|iframe|source|video)\b[^>]*?\bsrc=["\']?(?:https?:)?//[^"\'> ]+'
                     r'|<link\b(?![^>]*rel=["\']?canonical)[^>]*?\bhref=["\']?(?:https?:)?//[^"\'> ]+|(?:url\(|@import )["\']?https?://[^"\') ]+')


def contents(names: list[Path]) -> str:
    "The table of contents, a part for each room."
    text = ''
    for room, inside in groupby((n for n in names if len(n.parts) > 1), lambda n: n.parts[0]):
        pages = '\n'.join(n.with_suffix('').as_posix() for n in inside)
        text += f'```{{toctree}}\n:hidden:\n:maxdepth: 1\n:caption: {room.capitalize()}\n\n{pages}\n```\n\n'
    return text

def add_contents(names: list[Path]):
    "Put the table of contents at the end of the index."
    index = read_nb(PAGES / 'index.ipynb')
    index.cells.append(dict(cell_type='markdown', id='contents', metadata={}, source=contents(names)))
    write_nb(index, PAGES / 'index.ipynb')

def outside_requests() -> list[str]:
    "What the pages of the site would fetch from other hosts."
    return [f'{p.relative_to(SITE)}: {m[0]}' for p in sorted(SITE.rglob('*')) if p.suffix in ('.html', '.css')
            for m in OUTSIDE.finditer(p.read_text(encoding='utf-8'))]

def main() -> int:
    os.chdir(ROOT)
    if shutil.which('quarto'): return subprocess.run([Path(sys.executable).with_name('nbdev_docs')]).returncode
    for folder in (PAGES, SITE): shutil.rmtree(folder, ignore_errors=True)
    with ProcessPoolExecutor(min(2, os.cpu_count()), mp_context=get_context('spawn')) as pool:
        names = []
        for name in pool.map(page, notebooks()):
            names.append(name)
            print(f'page {name}', flush=True)
    # pictures and other files that pages link to
    for path in NBS.rglob('*'):
        if path.suffix in ('.png', '.jpg', '.svg', '.gif'):
            (PAGES / path.relative_to(NBS)).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(path, PAGES / path.relative_to(NBS))
    add_contents(names)
    # MyST-NB writes a folder of its own beside the site: build out of sight, move what is wanted
    build = PAGES / '_build'
    built = subprocess.run([sys.executable, '-m', 'sphinx', '-q', '-b', 'html', '-c', ROOT / 'docs', '-d', build / 'doctrees', PAGES, build / 'html'])
    if built.returncode: return built.returncode
    shutil.move(build / 'html', SITE)
    if found := outside_requests():
        print('the site would ask other hosts:', *found, sep='\n')
        return 1
    print(f'Open {SITE / "index.html"}')
    return 0

if __name__ == '__main__': sys.exit(main())
