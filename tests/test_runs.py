"""Real runs at tiny size: the same figures twice, hidden test labels, and the papers' own settings with random weights."""
import json

import pandas as pd
import pytest


@pytest.fixture
def papermill(python, tmp_path):
    "Run a notebook by plain papermill with these parameters; returns its result."
    def run(name, folder='reports', **parameters):
        words = [word for k, v in (parameters | dict(reports=tmp_path / folder)).items() for word in ('-p', k, v)]
        done = python('-m', 'papermill', '--no-progress-bar', '--log-level', 'ERROR', f'nbs/influencer/{name}.ipynb', tmp_path / 'page.ipynb', *words)
        assert done.returncode == 0, done.stderr[-3000:]
        found = sorted((tmp_path / folder).rglob(f'{name}*.json'))
        assert len(found) == 1
        return json.loads(found[0].read_text()) | dict(path=found[0])
    return run

@pytest.fixture
def hidden(tmp_path):
    "A source folder whose test labels are hidden, as the real ones are."
    from socialprof.influencer.data import simulate, write
    folder = tmp_path / 'hidden'
    write(simulate('intent', users_per_label=8, test_users=12), folder, 'intent')
    (folder / 'test_truth.json').unlink()
    return folder


def test_the_same_figures_twice(papermill):
    tiny = dict(users_per_label=8, epochs=3, repeats=1, methods='triplet Ins; frozen, centroid')
    first, second = (papermill('run_reshape', folder, **tiny) for folder in ('once', 'twice'))
    assert first['key'] == second['key'] and first['results'] and first['models']
    scores = [[{k: v for k, v in row.items() if k != 'seconds'} for row in result['results']] for result in (first, second)]
    assert scores[0] == scores[1]


def test_hidden_labels_are_predicted_and_not_scored(papermill, hidden):
    result = papermill('run_baselines', source=hidden, task='intent', fold=-1, methods='char-logistic; majority')
    table = pd.read_parquet(result['path'].with_name(result['predictions']))
    assert result['results'] == [] and result['source']['kind'] == 'real'
    assert len(table) == 24 and table.y.isna().all() and table.predicted.notna().all()


@pytest.mark.parametrize('kind, method', [('roberta', 'encoder LoRA'), ('bloom', 'decoder LoRA')])
def test_settings_of_the_paper_with_random_weights(papermill, hidden, kind, method):
    from socialprof.core.models import tiny
    result = papermill('run_update', profile='paper', source=hidden, task='intent', fold=0, model=tiny(kind), methods=method, epochs=1, max_length=200)
    assert {row['method'] for row in result['results']} == {method} and result['results'][0]['n'] == 8
