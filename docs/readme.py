"""README.md is nbs/index.ipynb as markdown: `python docs/readme.py` writes it, `--check` says whether it is what it should be."""
import argparse, posixpath, re, sys
from pathlib import Path

import nbformat
from nbconvert import MarkdownExporter

ROOT = Path(__file__).resolve().parents[1]
IMAGES = 'docs/readme'
# plain tables where a page that hosts the README would drop the styles of an HTML one
SHOWN = ['text/markdown', 'image/svg+xml', 'image/png', 'image/jpeg', 'text/plain']
LINK = re.compile(r'(!?\[[^\]]*\]\()(?![a-z][a-z+.-]*:|[#/])([^)\s]+)|((?:src|href)=")(?![a-z][a-z+.-]*:|[#/])([^"]+)')


def _visible(cell) -> bool:
    return not re.match(r'\s*#\|\s*(hide|include:\s*false)', cell.source)

def _without_directives(cell):
    cell.source = re.sub(r'^\s*#\|.*\n?', '', cell.source, flags=re.MULTILINE) if cell.cell_type == 'code' else cell.source
    return cell

def _from_root(match) -> str:
    "A link as seen from nbs/, as seen from the root."
    before, target = (match[1], match[2]) if match[1] else (match[3], match[4])
    return before + posixpath.normpath(posixpath.join('nbs', target))

def readme(index=ROOT / 'nbs' / 'index.ipynb') -> dict[str, bytes]:
    "The files made from the index: README.md, and the pictures among its outputs; path below the root -> content."
    notebook = nbformat.read(index, as_version=4)
    notebook.metadata['language_info'] = dict(name='python')  # of the fenced code
    notebook.cells = [_without_directives(c) for c in notebook.cells if _visible(c)]
    for cell in notebook.cells:
        if cell.cell_type == 'markdown':
            if 'attachments' in cell: raise ValueError(f'{index}, cell {cell.id}: link to a picture file, an attached one cannot be shown in README.md')
            cell.source = re.sub(LINK, _from_root, cell.source)
    exporter = MarkdownExporter(display_data_priority=SHOWN)
    exporter.register_preprocessor('nbconvert.preprocessors.ExtractOutputPreprocessor', enabled=True)
    text, resources = exporter.from_notebook_node(notebook, resources={'unique_key': 'readme', 'output_files_dir': IMAGES})
    head = '<!-- made from nbs/index.ipynb by `make prepare`: edit that -->\n\n'
    text = head + re.sub(r'\n{3,}', '\n\n', re.sub(r'[ \t]+$', '', text, flags=re.MULTILINE)).strip() + '\n'
    return {'README.md': text.encode(), **resources.get('outputs', {})}

def differences(wanted: dict[str, bytes]) -> list[str]:
    "What is missing, other than wanted, or left over."
    found = {p.relative_to(ROOT).as_posix() for p in (ROOT / IMAGES).glob('*')} | {'README.md'}
    wrong = [f'{name} is not what nbs/index.ipynb says' for name in wanted
             if not (ROOT / name).is_file() or (ROOT / name).read_bytes() != wanted[name]]
    return wrong + [f'{name} is in nbs/index.ipynb no longer' for name in sorted(found - set(wanted))]

def write(wanted: dict[str, bytes]):
    "Write what is wanted and delete pictures left over."
    for name, content in wanted.items():
        (ROOT / name).parent.mkdir(parents=True, exist_ok=True)
        (ROOT / name).write_bytes(content)
    for path in (ROOT / IMAGES).glob('*'):
        if path.relative_to(ROOT).as_posix() not in wanted: path.unlink()

def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--check', action='store_true', help='write nothing; exit 1 if README.md is not in sync')
    if not parser.parse_args().check:
        write(readme())
        return 0
    if wrong := differences(readme()): print(*wrong, 'run `make prepare`', sep='\n')
    return int(bool(wrong))

if __name__ == '__main__': sys.exit(main())
