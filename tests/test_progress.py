"""A batch under way as one sees it: its page fills, says how long it may take, and says when the batch was interrupted."""
import json, os, re, signal, subprocess, time
from pathlib import Path

import pytest

from test_batch import CLI, call, command, small_clone

SUMMARY = '''profile = 'notebook'
source = 'simulated'
log = ''
variant = ''
reports = \'\''''
CLAIM = dict(claim='T1', text='toys teach', task='profiling', where='', printed='', logged='', verdict='holds', reason='', metric='macro_f1',
             gap=.1, low=.05, high=.2, p=.01, q=.01, smallest=.05, n=40, cells=4, test='t', value=None, evidence='simulated', in_print='')
READ = f'''from socialprof.lab.run import Run
run = Run('influencer/run_summary', globals())
if log: open(log, 'a').write('summary\\n')
run.finish(ledger=[{CLAIM}])'''
GRID_WITH_SUMMARY = '''[influencer]
title = "toy"
[influencer.quick.run_toy]
runs = [{task = ["profiling", "intent"], fold = [0, 1, 2, 3], seconds = 3, first = {fold = [2], task = "intent"}}]
[influencer.quick.run_summary]
seconds = 1
'''


@pytest.fixture
def clone(tmp_path): return small_clone(tmp_path)

@pytest.fixture
def with_summary(clone):
    "A clone whose paper has a summary, and two runs that come first."
    notebook = json.loads((clone / 'nbs' / 'influencer' / 'run_toy.ipynb').read_text())
    cells = [notebook['cells'][0] | dict(source=SUMMARY), notebook['cells'][1] | dict(source=READ)]
    (clone / 'nbs' / 'influencer' / 'run_summary.ipynb').write_text(json.dumps(notebook | dict(cells=cells)))
    (clone / 'nbs' / 'grids.toml').write_text(GRID_WITH_SUMMARY)
    return clone

def begun(clone, *words) -> subprocess.Popen:
    words, env = command(clone, *words)
    return subprocess.Popen(words, env=env, cwd=clone, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

def page_with(clone, text: str, process: subprocess.Popen) -> str:
    "The index page, once it says this; the batch has to be under way."
    path = clone / 'reports' / 'quick' / 'index.html'
    while process.poll() is None:
        page = path.read_text() if path.exists() else ''
        if text in page: return page
        time.sleep(.1)
    raise AssertionError(f'the batch ended without {text!r} on its page: {process.communicate()}')

def report(clone) -> str:
    "The page that `socialprof report` writes."
    _, env = command(clone)
    done = subprocess.run([*CLI, 'report', '--reports', str(clone / 'reports')], env=env, cwd=clone, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return Path(done.stdout.strip()).read_text()

RELOAD = 'http-equiv="refresh"'


def test_a_verdict_is_there_early(with_summary):
    "What comes first runs first, then the summary; the page says how far the batch is; the summary is made again at the end."
    clone, log = with_summary, with_summary / 'executed'
    words = ['--set', f'log={log}', '--set', 'pause=2', '--workers=1']
    process = begun(clone, *words)
    page = page_with(clone, 'toys teach', process)
    counts = re.search(r'Under way: (\d) of 9 runs are done; (about|less than) [\w .]+ to go', page)
    assert counts and 1 <= int(counts[1]) < 9 and RELOAD in page
    output, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors
    last = clone / 'reports' / 'quick' / 'index.html'
    assert output.splitlines()[-1] == f'Open {last}' and not list((clone / 'reports' / '.batches').iterdir())
    page = last.read_text()
    assert 'toys teach' in page and not any(words in page for words in ('Under way', RELOAD, 'More runs are done'))
    lines = log.read_text().split()
    assert lines[:2] == ['intent2', 'summary'] and lines[-1] == 'summary' and len(lines) == 10 and len(set(lines)) == 9
    again = call(clone, *words)
    assert again.returncode == 0 and again.stdout.endswith(f'Open {last}\n') and log.read_text().split() == lines
    result = next((clone / 'reports').rglob('intent/*.json'))
    result.write_text(result.read_text().replace('"key": "', '"key": "0'))    # as if it had been made again
    page = report(clone)
    assert 'toys teach' in page and 'More runs are done' in page


def test_an_interrupted_batch_says_so(clone):
    "Killed, then stopped by hand, then done."
    words = ['--set', 'pause=2', '--workers=1']
    process = begun(clone, *words)
    page_with(clone, 'Under way', process)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    page = report(clone)
    assert re.search(r'Interrupted</b> at [\d:]+: \d of 8 runs are done\.', page) and RELOAD not in page
    process = begun(clone, *words)
    assert 'Interrupted' not in page_with(clone, 'Under way', process)
    process.send_signal(signal.SIGINT)
    output, errors = process.communicate(timeout=120)
    assert process.returncode == 130 and 'the same command goes on from here' in errors, errors
    last = Path(re.search(r'Open (.*)', output)[1])
    assert 'Interrupted</b>' in last.read_text() and RELOAD not in last.read_text()
    assert call(clone, *words).returncode == 0
    assert not any(text in last.read_text() for text in ('Interrupted', 'Under way', RELOAD))
