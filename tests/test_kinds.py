"""Five kinds of prediction from a run to the ledger; and figures of classes and labels as they were before there were five."""
import json

import numpy as np
import pandas as pd
import pytest

from socialprof.core.formats import FormatError
from socialprof.lab.intervals import contrast, estimates
from socialprof.lab.ledger import Claim, Number, beats, ledger
from socialprof.lab.metrics import metrics_of
from socialprof.lab.predictions import KINDS, codes, joined, kind_of, kinds_in
from socialprof.lab.protocol import Fitted
from socialprof.lab.report import results_table, scores_of
from socialprof.lab.results import load_predictions, load_results
from socialprof.lab.run import Run

# scores of A and gaps of A and B in the tables below, computed before there were five kinds
BEFORE = {
    'classes cv macro_f1': 0.7675624003861977,
    'classes cv accuracy': 0.7708333333333334,
    'classes cv A-B macro_f1': 0.18038868989055784,
    'classes cv A-B accuracy': 0.17916666666666667,
    'classes test macro_f1': 0.8663736759071444,
    'classes test accuracy': 0.8666666666666667,
    'classes test A-B macro_f1': 0.202352818141603,
    'classes test A-B accuracy': 0.20000000000000007,
    'labels cv macro_auc': 0.865835413822858,
    'labels cv micro_auc': 0.8633091276422729,
    'labels cv average_precision': 0.6960949008161981,
    'labels cv f1:y': 0.666243842364532,
    'labels cv rce': 1.6725792130431971,
    'labels cv ece': 0.15602896459421323,
    'labels cv A-B macro_auc': 0.24699580461623777,
    'labels cv A-B micro_auc': 0.23723272420717678,
    'labels test macro_auc': 0.8638964770626272,
    'labels test micro_auc': 0.8576068376068376,
    'labels test average_precision': 0.7366232195195774,
    'labels test f1:y': 0.6498194945848376,
    'labels test rce': 12.548283450091745,
    'labels test ece': 0.1307083333333333,
    'labels test A-B macro_auc': 0.20999506346640906,
    'labels test A-B micro_auc': 0.20626257141472792,
}


def classes(method: str, right: float, split: str, folds: int) -> pd.DataFrame:
    "A method that is right with probability `right`."
    rng = np.random.default_rng([3, int(10 * right), folds])
    y = np.repeat(list('abcd'), 15 * folds)
    predicted = np.where(rng.random(len(y)) < right, y, rng.choice(list('abcd'), len(y)))
    place = np.arange(len(y))
    return pd.DataFrame(dict(method=method, split=split, fold=place % folds, seed=0, unit=[f'u{i // 2}' for i in place], y=y, predicted=predicted))

def labels(method: str, content: float, split: str, folds: int) -> pd.DataFrame:
    "Labels that come by event; scores know `content` of them."
    rng = np.random.default_rng([4, int(10 * content), folds])
    event = rng.integers(0, 30, 400)
    y = rng.random((400, 3)) < np.linspace(.2, .8, 30)[event][:, None] * [1, .6, .3]
    score = (1 / (1 + np.exp(-(content * (y - .5) + rng.normal(size=y.shape))))).round(3)
    table = dict(method=method, split=split, fold=event % folds, seed=0, trained_on=900, unit=[f'e{e}' for e in event], y=codes(y), predicted=codes(score > .5))
    return pd.DataFrame(table | {f'score.{name}': score[:, i] for i, name in enumerate('xyz')})


@pytest.mark.parametrize('split, folds', [('cv', 4), ('test', 1)])
@pytest.mark.parametrize('make, better, worse, metrics', [
    (classes, .7, .5, ['macro_f1', 'accuracy']), (labels, 1.5, .5, ['macro_auc', 'micro_auc', 'average_precision', 'f1:y', 'rce', 'ece'])])
def test_figures_of_before(make, better, worse, metrics, split, folds):
    "Scores and gaps as they were before there were five kinds; intervals are newer, and are tried in worlds."
    both = pd.concat([make('A', better, split, folds), make('B', worse, split, folds)])
    kind = make.__name__
    for name, one in estimates(both[both.method == 'A'], metrics, 200).items():
        assert np.isclose(one.value, BEFORE[f'{kind} {split} {name}'], rtol=1e-11, atol=0) and one.low < one.value < one.high
    for name in metrics[:2]:
        gap = contrast(both, [(1, 'A', split), (-1, 'B', split)], name)
        assert np.isclose(gap.value, BEFORE[f'{kind} {split} A-B {name}'], rtol=1e-11, atol=0) and gap.low < gap.value < gap.high


WORDS = np.array('soup bread snow dogs sea night red table child bicycle window rain'.split())

def others(kind: str, method: str, error: float, fold: int = 0) -> pd.DataFrame:
    "Predictions of a kind; the larger `error`, the worse."
    rng = np.random.default_rng(5 + fold)
    rows = 48
    if kind == 'values':
        y = rng.lognormal(3, 1, rows)
        predicted = y * np.exp(error * rng.normal(size=rows))
    elif kind == 'texts':
        true = [rng.permutation(WORDS)[:6] for _ in range(rows)]
        y = [[' '.join(text), ' '.join(text[::-1])] for text in true]
        predicted = [' '.join(np.where(rng.random(6) < error, rng.choice(WORDS, 6), text)) for text in true]
    else:
        y = [rng.permutation(WORDS)[:2].tolist() if i % 2 else {one: float(i % 3 + 1) for one in rng.permutation(WORDS)[:2]} for i in range(rows)]
        orders = [rng.permutation(WORDS).tolist() for _ in range(rows)]
        predicted = [order if rng.random() < error else [*tags, *(one for one in order if one not in tags)] for tags, order in zip(y, orders, strict=True)]
    return pd.DataFrame(dict(kind=kind, method=method, split='cv', fold=fold, seed=0, trained_on=100, unit=[f'u{i % 16}-{fold}' for i in range(rows)],
                             y=pd.Series(list(y), dtype=object if kind != 'values' else float), predicted=predicted))

def run(tmp_path, fold=0) -> Run:
    return Run('influencer/run_baselines', dict(reports=str(tmp_path), task='profiling', fold=fold, seed=0))


@pytest.mark.parametrize('kind', ['values', 'texts', 'rankings'])
def test_from_a_run_to_the_ledger(kind, tmp_path):
    tables = {fold: pd.concat([others(kind, 'good', .2, fold), others(kind, 'bad', .9, fold)], ignore_index=True) for fold in range(3)}
    for fold, table in tables.items():
        result = run(tmp_path, fold).finish(Fitted(table, {'good': 1., 'bad': 1.}))
        scored = {(row['method'], row['metric']): row for row in result['results']}
        assert {metric for _, metric in scored} == set(metrics_of(table)) and all(row['low'] <= row['value'] <= row['high'] for row in scored.values())
    results = load_results(tmp_path)
    whole = load_predictions(results)
    assert kind_of(whole) == kind and len(whole) == sum(map(len, tables.values()))
    first = whole[whole.fold == 0].reset_index(drop=True)
    assert first.y.tolist() == tables[0].y.tolist() and first.predicted.tolist() == tables[0].predicted.tolist()
    rows = results_table(results, 'quick')
    assert set(rows.metric) == set(metrics_of(whole)) and len(scores_of(rows)) == 2
    metric = {'values': 'rmse:log1p', 'texts': 'bleu4', 'rankings': 'ndcg@10'}[kind]
    numbers = [Number('table 1', name, 'profiling', 'cv', value, metric, ours=name) for name, value in (('good', .3), ('bad', .7))]
    second = {'values': 'spearman', 'texts': 'rougeL', 'rankings': 'mrr'}[kind]
    claims = [Claim(f'{one} {name}', f'{one} beats {other}', 'profiling', beats(one, other), metric=name)
              for one, other in (('good', 'bad'), ('bad', 'good')) for name in (metric, second)]
    table = ledger([*claims, Claim('misfit', 'macro-F1 of it', 'profiling', beats('good', 'bad'))], whole, dict(kind='simulated', effects={}), numbers)
    assert table.verdict.tolist() == ['holds', 'holds', 'reversed', 'reversed', 'not comparable']
    assert table.in_print[0] == ('yes' if kind == 'values' else 'no') and table.in_print[2] == ('no' if kind == 'values' else 'yes')   # .3 is the smaller error


def test_several_kinds_in_one_run(tmp_path):
    parts = [classes('tier', .7, 'cv', 1), labels('near', 1., 'cv', 1), *(others(kind, kind, .3) for kind in ('values', 'texts', 'rankings'))]
    result = run(tmp_path).finish(Fitted(joined(parts), {}))
    assert {row['method'] for row in result['results']} == {'tier', 'near', 'values', 'texts', 'rankings'}
    whole = load_predictions(load_results(tmp_path))
    by_method = {method: kind_of(part) for method, part in whole.groupby('method')}
    assert by_method == dict(tier='classes', near='labels', values='values', texts='texts', rankings='rankings') and kinds_in(whole) == list(KINDS)[1:]
    assert json.loads(json.dumps(result['results'], allow_nan=False))


@pytest.mark.parametrize('kind, change', [
    ('values', dict(predicted='many')), ('texts', dict(predicted=3.)), ('rankings', dict(predicted='#soup')), ('values', dict(unit=None))])
def test_wrong_predictions_end_a_run_before_its_result(kind, change, tmp_path):
    one = run(tmp_path)
    with pytest.raises(FormatError, match=next(iter(change))): one.finish(Fitted(others(kind, 'm', .3).assign(**change), {}))
    assert not one.path.exists() and not one.path.with_suffix('.parquet').exists()


@pytest.mark.parametrize('kind', ['values', 'texts', 'rankings'])
def test_hidden_truth_is_not_scored(kind, tmp_path):
    table = others(kind, 'm', .3)
    result = run(tmp_path).finish(Fitted(table.assign(y=np.nan if kind == 'values' else None), {}))
    assert result['results'] == [] and len(load_predictions(load_results(tmp_path))) == len(table)
