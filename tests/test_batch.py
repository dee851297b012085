"""Batches as a user meets them: killed, doubled, out of disk, with a notebook that raises, and the same numbers whatever happened."""
import json, os, random, resource, shutil, signal, subprocess, sys, time
from pathlib import Path

import pandas as pd
import pytest

ROOT = Path(__file__).resolve().parents[1]
CLI = [sys.executable, '-m', 'socialprof']
PARAMETERS = '''profile = 'notebook'
source = 'simulated'
task = 'profiling'
fold = 0
seed = 0
accident = ''    # what goes wrong in fold 2: 'raise' or 'exit'
pause = 0.3      # seconds
log = ''         # a line is added here for each execution
topic = 1.0
style = 1.0
count = 1.0
variant = ''
reports = \'\''''
WORK = '''import os, time
import numpy as np
import pandas as pd
from socialprof.lab.protocol import Fitted
from socialprof.lab.run import Run
run = Run('influencer/run_toy', globals())
if log: open(log, 'a').write(f'{task}{fold}\\n')
time.sleep(pause)
if accident == 'raise' and fold == 2: raise RuntimeError('the middle of fold 2')
if accident == 'exit' and fold == 2: os._exit(3)'''
END = '''rng = np.random.default_rng([seed, fold + 1])
y = np.repeat(['nano', 'mega'], 20)
table = pd.DataFrame(dict(method='toy', split='cv', fold=fold, seed=seed, unit=[f'u{fold}-{i}' for i in range(40)], y=y,
                          predicted=np.where(rng.random(40) < .7, y, 'nano')))
result = run.finish(Fitted(table, {'toy': 1.}))'''
GRID = '''[influencer]
title = "toy"
[influencer.quick.run_toy]
task = ["profiling", "intent"]
fold = [0, 1, 2, 3]
'''


def small_clone(tmp_path: Path) -> Path:
    "The real package, one quick notebook, one grid."
    shutil.copy(ROOT / 'settings.ini', tmp_path)
    (tmp_path / 'socialprof').symlink_to(ROOT / 'socialprof')
    (tmp_path / 'nbs' / 'influencer').mkdir(parents=True)
    (tmp_path / 'nbs' / 'grids.toml').write_text(GRID)
    def cell(source, **meta): return dict(cell_type='code', id=f'c{abs(hash(source)) % 10**6}', metadata=meta, source=source, outputs=[], execution_count=None)
    cells = [cell(PARAMETERS, tags=['parameters']), cell(WORK), cell(END)]
    kernel = dict(kernelspec=dict(name='python3', display_name='python3', language='python'))
    (tmp_path / 'nbs' / 'influencer' / 'run_toy.ipynb').write_text(json.dumps(dict(cells=cells, metadata=kernel, nbformat=4, nbformat_minor=5)))
    return tmp_path

@pytest.fixture
def clone(tmp_path): return small_clone(tmp_path)


def command(clone, *words, reports='reports'):
    "Words and environment of a `socialprof run` in this clone."
    env = os.environ | dict(SOCIALPROF_ROOT=str(clone), SOCIALPROF_CACHE=str(clone / 'cache'), PYTHONPATH=f"{ROOT}{os.pathsep}{os.environ['PYTHONPATH']}")
    return [*CLI, 'run', *words, '--quiet', '--reports', str(clone / reports)], env

def call(clone, *words, reports='reports', **options):
    words, env = command(clone, *words, reports=reports)
    return subprocess.run(words, env=env, cwd=clone, capture_output=True, text=True, timeout=300, **options)

def figures(clone, reports='reports') -> dict:
    "What a batch found: name → scores. Times, commits and keys of paths are not part of it."
    found = {}
    for path in sorted((clone / reports).rglob('run_*.json')):
        result = json.loads(path.read_text())
        found[f'{path.parent.name}/{path.name}'] = [{k: row[k] for k in ('method', 'metric', 'value', 'low', 'high', 'n')} for row in result['results']]
    return found

@pytest.fixture(scope='module')
def unbroken(tmp_path_factory):
    "Scores of a batch that nothing happened to."
    small = small_clone(tmp_path_factory.mktemp('unbroken'))
    done = call(small, workers(2))
    assert done.returncode == 0, done.stderr
    return figures(small)

def workers(n): return f'--workers={n}'


def test_kill_at_random_moments_and_go_on(clone, unbroken):
    dice, broken = random.Random(7), 0
    for _ in range(3):
        words, env = command(clone, '--set', 'pause=0.5')
        process = subprocess.Popen(words, env=env, cwd=clone, start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(dice.uniform(4, 9))
        broken += process.poll() is None
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        for path in (clone / 'reports').rglob('run_*.json'): json.loads(path.read_text())  # never half a file
    assert broken, 'the batch ended before it was killed'
    last = call(clone, '--set', 'pause=0.5')
    assert last.returncode == 0, last.stderr
    again = {name.replace('-pause=0.5', ''): [row | dict(method='toy') for row in rows] for name, rows in figures(clone).items()}
    assert again == unbroken


def test_no_kernel_outlives_a_killed_batch(clone):
    words, env = command(clone, '--set', 'pause=60', workers(1))
    mark = f'socialprof-test-{os.getpid()}-{random.random()}'
    process = subprocess.Popen(words, env=env | dict(MARK=mark), cwd=clone, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    def alive(): return [p for p in Path('/proc').glob('[0-9]*') if mark.encode() in _environment(p) and p.name != str(process.pid)]
    deadline = time.monotonic() + 60
    while not alive() and time.monotonic() < deadline: time.sleep(.2)
    if not alive(): pytest.skip('processes cannot be listed here')
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    deadline = time.monotonic() + 30
    while alive() and time.monotonic() < deadline: time.sleep(.5)
    assert not alive()

def _environment(process: Path) -> bytes:
    try: return (process / 'environ').read_bytes() if (process / 'stat').read_text().split()[2] != 'Z' else b''
    except OSError: return b''


def test_two_batches_at_once_run_everything_once(clone, unbroken):
    log = clone / 'executed'
    words, env = command(clone, '--set', f'log={log}')
    both = [subprocess.Popen(words, env=env, cwd=clone, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    outputs = [process.communicate(timeout=300) for process in both]
    assert [process.returncode for process in both] == [0, 0], outputs
    lines = log.read_text().split()
    assert sorted(lines) == sorted(f'{task}{fold}' for task in ('profiling', 'intent') for fold in range(4))
    assert [row['value'] for rows in figures(clone).values() for row in rows] == [row['value'] for rows in unbroken.values() for row in rows]


@pytest.mark.parametrize('accident, told', [('raise', 'RuntimeError: the middle of fold 2'), ('exit', 'DeadKernelError')])
def test_one_run_fails_and_the_others_go_on(clone, accident, told):
    done = call(clone, '--set', f'accident={accident}')
    assert done.returncode == 1 and told in done.stderr and '6 done, 2 failed' in done.stdout
    page = Path(done.stdout.splitlines()[-1].removeprefix('Open ')).read_text()
    assert '2 of 8 runs failed' in page and 'Under way' not in page
    failed = sorted((clone / 'reports').rglob('*.failed.json'))
    assert len(failed) == 2 and all(json.loads(path.read_text())['status'] == 'failed' for path in failed)
    if accident == 'raise':
        page = failed[0].with_name(failed[0].name.replace('.failed.json', '.html')).read_text()
        assert 'the middle of fold 2' in page
    again = call(clone, '--set', f'accident={accident}', '--dry-run')
    assert '2 of 8 runs to do' in again.stdout


def test_disk_full(clone, unbroken):
    def small(): resource.setrlimit(resource.RLIMIT_FSIZE, (3000, 3000))
    done = call(clone, preexec_fn=small)
    assert done.returncode == 1 and '8 failed' in done.stdout and 'File too large' in done.stderr
    assert 'no page: ' in done.stderr and 'Open' not in done.stdout
    assert not figures(clone) or all('failed' in name for name in figures(clone))
    assert not list((clone / 'reports').rglob('*.tmp'))
    assert call(clone).returncode == 0
    assert figures(clone) == unbroken


def test_same_figures_twice_and_with_another_number_of_workers(clone, unbroken):
    assert call(clone, workers(1)).returncode == 0
    assert figures(clone) == unbroken
    again = call(clone, workers(3), '--force')
    assert again.returncode == 0 and '8 done' in again.stdout
    assert figures(clone) == unbroken


def test_dry_run_says_why(clone):
    first = call(clone, '--dry-run', 'influencer/intent')
    assert first.returncode == 0 and first.stdout.count('(not run)') == 4
    assert call(clone, 'influencer/intent', '--fold', '1').returncode == 0
    assert '3 of 4 runs to do' in call(clone, '--dry-run', 'influencer/intent').stdout
    notebook = clone / 'nbs' / 'influencer' / 'run_toy.ipynb'
    notebook.write_text(notebook.read_text().replace('< .7', '< .8'))
    changed = call(clone, '--dry-run', 'influencer/intent', '--fold', '1')
    assert 'notebook, parameters, data, code or packages changed' in changed.stdout


@pytest.mark.parametrize('words, told', [
    (['influencers'], 'there are: influencer'), (['influencer/profilin'], "did you mean 'profiling'?"), (['--profile', 'fast'], 'quick, standard, paper'),
    (['--set', 'accidnt=3'], "did you mean 'accident'?"), (['--set', 'fold=two'], 'expects int'), (['--set', 'epochs'], 'name=value'),
    (['--source', 'no-such-folder'], 'no such folder'), (['influencer/custom'], '--source'), (['--profile', 'paper'], 'real data'),
    (['--workers', '0'], 'greater than or equal to 1')])
def test_wrong_use_ends_with_2_and_says_what_there_is(clone, words, told):
    done = call(clone, *words)
    assert done.returncode == 2 and told in done.stderr and 'Traceback' not in done.stderr


def test_report(clone):
    assert call(clone, 'influencer/intent', '--set', 'accident=raise').returncode == 1
    words, env = command(clone)
    done = subprocess.run([*CLI, 'report', '--reports', str(clone / 'reports')], env=env, cwd=clone, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    folder = clone / 'reports' / 'quick'
    table = pd.read_csv(folder / 'results.csv')
    assert list(table.columns) == ['profile', 'source', 'paper', 'task', 'method', 'fold', 'seed', 'metric', 'value', 'n', 'seconds', 'split', 'rows']
    assert set(table.fold) == {0, 1, 3} and set(table.n) == set(table.rows) == {40} and set(table.split) == {'cv'}
    page = (folder / 'index.html').read_text()
    assert '1 of 4 runs failed' in page and 'Simulated data' in page
    assert not any(f'{kind}="http' in page for kind in ('src', 'href="https://cdn', 'link href'))
    nothing = subprocess.run([*CLI, 'report', '--reports', str(clone / 'elsewhere')], env=env, cwd=clone, capture_output=True, text=True, timeout=120)
    assert nothing.returncode == 1 and 'first `socialprof run' in nothing.stderr
