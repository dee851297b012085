"""run_case with a case-study file and without one, and what the ledger makes of it."""
from dataclasses import replace
import json

import pandas as pd
import pytest

METHODS = 'base rates; random forest; logistic'
SAYS_NONE = 'whose predictions stand on the pages of that split'
AS = {'encoder full': 'logistic', 'random forest': 'random forest', 'base rates': 'base rates'}  # what stands in for the tuned encoder


@pytest.fixture
def case_file(tmp_path):
    "A case-study CSV of the authors' form, its posts simulated apart from those that are trained on."
    from socialprof.violence.data import simulate, write
    folder = write(simulate('six', seed=5, rows=120), tmp_path / 'case', 'six', form='case')
    return next(folder.glob('*.csv'))

@pytest.fixture
def run_case(python, tmp_path):
    "Run the notebook by plain papermill; returns its result."
    def run(**parameters):
        given = dict(methods=METHODS, rows=400, train_rows=0, least=4, reports=tmp_path / 'reports') | parameters
        words = [word for name, value in given.items() for word in ('-p', name, value)]
        page = tmp_path / 'page.ipynb'
        done = python('-m', 'papermill', '--no-progress-bar', '--log-level', 'ERROR', 'nbs/violence/run_case.ipynb', page, *words)
        assert done.returncode == 0, done.stderr[-3000:]
        path = next((tmp_path / 'reports').rglob('run_case*.json'))
        return json.loads(path.read_text()) | dict(path=path, page=page.read_text())
    return run

def verdicts_on_case(predictions):
    "The verdicts of the claims about a case; a cheap method answers for the tuned encoder."
    from socialprof.lab.ledger import verdict
    from socialprof.violence.claims import GROUPS
    stated = [replace(claim, terms=tuple((weight, AS[method], *rest) for weight, method, *rest in claim.terms))
              for claim in GROUPS['V9 unseen cases']]
    return {claim.id: verdict(claim, predictions.assign(task='six')) for claim in stated}


def test_with_a_file_the_case_is_predicted_and_decided(run_case, case_file):
    result = run_case(case=case_file)
    table = pd.read_parquet(result['path'].with_name(result['predictions']))
    assert set(table.split) == {'case'} and len(table) == 3 * 120 and result['events']
    assert {row['split'] for row in result['results']} == {'case'} and SAYS_NONE not in result['page']
    rows = verdicts_on_case(table)
    assert all(rows[name]['gap'] is not None for name in ('V9a', 'V9b')), rows
    assert rows['V9c']['verdict'] == 'not run' and 'logistic on random' in rows['V9c']['reason']


def test_without_a_file_nothing_is_kept_and_nothing_is_decided(run_case):
    result = run_case()
    assert result['results'] == [] and result['predictions'] is None and SAYS_NONE in result['page']
    assert result['events']   # event blocks one by one are still on the page
    nothing = pd.DataFrame(columns=['method', 'split', 'fold', 'seed', 'unit', 'y', 'predicted'])
    assert {row['verdict'] for row in verdicts_on_case(nothing).values()} == {'not run'}


def test_quick_plans_no_case():
    from socialprof.lab.batch import plan
    assert not any('run_case' in run.notebook for run in plan(['violence'], 'quick')[0])
