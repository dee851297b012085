"""Splits, features, encodings, boosted trees and calibration of retweets, on simulated rows and on degenerate ones."""
import json

import numpy as np
import pandas as pd
import polars as pl
import pytest
from sklearn.base import clone

from socialprof.lab.curves import Curves, TiedScores, prauc_table
from socialprof.lab.intervals import estimates
from socialprof.lab.metrics import metric_of, metrics_of
from socialprof.lab.predictions import codes
from socialprof.lab.results import score_rows
from socialprof.retweet import calibration, encodings, features, splits
from socialprof.retweet.columns import LABELS, as_table, targets
from socialprof.retweet.encodings import BoostedEncodings, History, TargetEncodings
from socialprof.retweet.features import Features, LeakError, check_no_leak, leaky_counts, unlabelled
from socialprof.retweet.rows import TowerFeatures
from socialprof.retweet.world import simulate

SMALL = dict(keys=('author', 'reader'), trees=15, rate=.2, depth=3)


@pytest.fixture(scope='module')
def frame(): return simulate('four', seed=4, rows=2500)

@pytest.fixture(scope='module')
def cell(frame): return splits.cells(frame, 'four', 'post')[0]

def table_of(y, p, label='retweet', **more):
    y, p = np.asarray(y, bool).reshape(-1, 1), np.asarray(p, float).reshape(-1, 1)
    about = dict(method='m', split='post', fold=0, seed=0, unit=np.arange(len(y)).astype(str))
    return pd.DataFrame(about | more | dict(y=codes(y), predicted=codes(p > .5)) | {f'score.{label}': p[:, 0]})


# metrics

def by_hand(y, p):
    p, rate = np.clip(p, 1e-15, 1 - 1e-15), np.mean(y)
    loss = -np.mean(y * np.log(p) + (1 - y) * np.log(1 - p))
    return 100 * (1 - loss / -(rate * np.log(rate) + (1 - rate) * np.log(1 - rate)))

@pytest.mark.parametrize('decimals', [1, 2, 7])
def test_metrics_of_drawn_units_are_those_of_repeated_rows(decimals):
    from sklearn.metrics import auc, precision_recall_curve
    rng = np.random.default_rng(decimals)
    y, p = rng.random(300) < .2, rng.random(300).round(decimals)
    table, unit = table_of(y, p), rng.integers(0, 25, 300)
    drawn = rng.multinomial(25, np.full(25, 1 / 25), 6)
    facts = Curves.of(table, drawn.astype(float), unit)
    for b, weight in enumerate(drawn):
        many = np.repeat(np.arange(300), weight[unit])
        precision, recall, _ = precision_recall_curve(y[many], p[many])
        assert np.isclose(facts.prauc[b, 0], auc(recall, precision))
        assert np.isclose(facts.rce[b, 0], by_hand(y[many].astype(float), p[many]))

def test_metrics_where_there_is_nothing_to_tell():
    assert np.isnan(metric_of('rce').score(table_of([0, 0, 0], [.1, .2, .3]))) and np.isnan(metric_of('prauc').score(table_of([0, 0], [.1, .2])))
    assert np.isnan(metric_of('rce').score(table_of([1, 1], [.9, .8]))) and np.isnan(metric_of('prauc').score(table_of([1, 1], [.9, .8])))
    assert np.isnan(metric_of('rce:retweet').score(table_of([1, 0], [2.5, -1.]))) and metric_of('prauc').score(table_of([1, 0], [2.5, -1.])) == 1
    assert -4000 < metric_of('rce').score(table_of([1, 0, 0], [0., 1., .5])) < -1000  # clipped at 1e-15, finite

def test_a_constant_fools_the_trapezoid_and_is_told():
    table = table_of([1] + [0] * 9, [.3] * 10)
    with pytest.warns(TiedScores, match='ties made'): found = prauc_table(table)
    assert np.isclose(found.prauc[0], .55) and np.isclose(found.constant[0], .55) and found.untied[0] < .55 and found.tied[0] == 1

def test_they_are_computed_where_they_are_asked_for():
    table = table_of(np.arange(40) % 3 == 0, np.linspace(0, 1, 40))
    assert not {'rce', 'prauc'} & set(metrics_of(table))
    rows = score_rows(table, ['rce', 'prauc:retweet', 'ece'])
    assert [row['metric'] for row in rows] == ['rce', 'prauc:retweet', 'ece'] and all(row['low'] <= row['value'] <= row['high'] for row in rows)
    assert list(estimates(table, ['rce'], 50)) == ['rce']


# splits

@pytest.mark.parametrize('split', splits.SPLITS)
@pytest.mark.parametrize('fold', [0, 4])
def test_units_are_never_parted(frame, split, fold):
    one = splits.cells(frame, 'four', split, fold)[0]
    parts = [one.train, one.validation, one.test]
    assert sum(map(len, parts)) == len(set(np.concatenate(parts)))
    if units := splits.SPLITS[split].units:
        names = [set(units(frame)[part]) for part in parts]
        assert not (names[0] & names[1] or names[0] & names[2] or names[1] & names[2])
        assert splits.overlap(frame, one)[split] == 0
    else:
        times = [frame['tweet_time'].to_numpy()[part] for part in parts]
        assert times[0].max() + 4 * 3600 < times[1].min() and times[1].max() + 4 * 3600 < times[2].min()

def test_a_label_with_one_value_can_be_split(frame):
    whole = frame.assign(retweet_time=pd.array([pd.NA] * len(frame), 'Int64'))
    assert len(splits.cells(whole, 'retweet', 'reader')[0].test) > 100


# features

def test_parquet_and_frame_agree_in_whatever_pieces(frame, tmp_path):
    made = Features().fit(frame.iloc[:900])
    for i, (low, high) in enumerate([(0, 1), (1, 700), (700, 2500)]): as_table(frame.iloc[low:high]).write_parquet(tmp_path / f'{i}.parquet')
    lazily = made.lazy(str(tmp_path / '*.parquet')).collect(engine='streaming')
    assert lazily.equals(pl.DataFrame({name: column.to_numpy() for name, column in made.transform(frame).items()}))
    assert made.lazy(as_table(unlabelled(frame)).lazy()).collect().equals(lazily)

def test_follow_is_named_by_its_reading(frame):
    for follow, name in (('reader', 'reader_follows_author'), ('author', 'author_follows_reader')):
        assert Features(('follow',), follow).fit(frame).get_feature_names_out().tolist() == [name]
    with pytest.raises(ValueError, match="write 'counts'"): Features(('count',)).fit(frame).transform(frame)

class Counted:
    "Counts of retweets by reader: fitted on whatever it is given."
    def fit(self, frame):
        self.counts = frame.groupby('reader_id')['retweet_time'].count()
        return self
    def transform(self, frame): return pd.DataFrame({'hour': frame['tweet_time'] // 3600 % 24, 'retweets': frame['reader_id'].map(self.counts).fillna(0)})

class Own(Counted):
    "Looks at the labels of the rows that it is given to transform."
    def transform(self, frame): return super().transform(frame).assign(quick=(frame['like_time'] - frame['tweet_time']).astype(float).fillna(0))

def test_the_guard_names_what_leaks_and_nothing_else(frame, cell):
    check_no_leak(Counted().fit(frame.iloc[cell.train]), frame, cell.test)
    check_no_leak(lambda whole: Counted().fit(whole.iloc[cell.train]).transform(whole.iloc[cell.test]), frame, cell.test)
    for leaky, column in ((lambda whole: Counted().fit(whole).transform(whole.iloc[cell.test]), 'retweets'), (Own().fit(frame.iloc[cell.train]), 'quick')):
        with pytest.raises(LeakError) as caught: check_no_leak(leaky, frame, cell.test)
        assert caught.value.columns == [column] and column in str(caught.value)
    with pytest.raises(LeakError) as caught: check_no_leak(lambda whole: leaky_counts(whole).iloc[cell.test], frame, cell.test)
    assert len(caught.value.columns) == 12

def test_the_guard_sees_a_column_that_comes_with_the_labels(frame, cell):
    def make(whole): return pd.DataFrame({'all': 0} | ({'known': 1} if targets(whole.iloc[cell.test]).sum() > 300 else {}), index=range(len(cell.test)))
    with pytest.raises(LeakError, match='known'): check_no_leak(make, frame, cell.test)
    with pytest.raises(ValueError, match='nothing could leak'): check_no_leak(make, features.changed_labels(frame, cell.test, 'taken away'), cell.test)


# encodings

@pytest.mark.parametrize('smoothing', [0., 20.])
@pytest.mark.parametrize('together', ['row', 'post', 'reader'])
def test_encodings_against_a_double_loop(frame, smoothing, together):
    rows, name = frame.iloc[:300], 'type, language'
    y, made = targets(rows), TargetEncodings((name,), smoothing, 4, together, seed=3)
    found, fold = made.fit_transform(rows).to_numpy(), encodings.fold_of(rows, together, 4, 3)
    new = made.transform(frame.iloc[300:400]).to_numpy()
    kinds = list(zip(frame.tweet_type, frame.language, strict=True))
    for i in [*range(0, 300, 7), *range(300, 400, 7)]:
        others = [j for j in range(300) if i >= 300 or fold[j] != fold[i]]
        like = [j for j in others if kinds[j] == kinds[i]]
        prior = y.mean(0)
        wanted = (y[like].sum(0) + smoothing * prior) / (len(like) + smoothing) if len(like) + smoothing else prior
        assert np.allclose((found[i] if i < 300 else new[i - 300]), wanted, atol=1e-6)

def test_what_is_never_parted_tells_nothing(frame):
    found = TargetEncodings(('reader',), together='reader').fit_transform(frame)
    assert (found.max() - found.min()).max() < 1e-6 and np.allclose(found.iloc[0], targets(frame).mean(0))

def test_encodings_refuse_rows_they_were_fitted_on(frame):
    made = TargetEncodings(('author',)).fit(frame.iloc[:500])
    with pytest.raises(LeakError, match='training rows'): made.transform(frame.iloc[499:510])
    assert made.transform(frame.iloc[500:500]).shape == (0, 4) and made.transform(frame.iloc[500:501]).shape == (1, 4)
    with pytest.raises(ValueError, match='found none'): made.fit(frame.iloc[:0])
    with pytest.raises(ValueError, match='neither'): made.fit(unlabelled(frame))
    with pytest.raises(ValueError, match='together'): TargetEncodings(together='moon').fit_transform(frame)

def test_history_is_strictly_before(frame):
    counts = History(('reader',)).fit(frame).transform(frame)
    for i in range(0, len(frame), 83):
        mine = frame.reader_id == frame.reader_id[i]
        assert counts['reader: rows before'][i] == (mine & (frame.tweet_time < frame.tweet_time[i])).sum()
        assert counts['reader: like before'][i] == (mine & (frame.like_time < frame.tweet_time[i]).fillna(False)).sum()
    alone = History().fit(frame.iloc[:1]).transform(frame.iloc[:1])
    assert (alone == 0).all(axis=None)

def cut_off(frame, second):
    "What was there in a second: the rows before it, and the labels that had come."
    rows = frame[frame.tweet_time < second].copy()
    for label in LABELS: rows[f'{label}_time'] = rows[f'{label}_time'].where(rows[f'{label}_time'] < second)
    rows.attrs = frame.attrs
    return rows

BY_TIME = dict(history=History(), encodings=TargetEncodings(('author', 'reader'), together='time'),
               numbers=TowerFeatures(max_length=24), boosted=BoostedEncodings(groups=('encodings', 'history'), together='time', **SMALL))

def by_time(maker, frame):
    "The features by time of training rows, in the unit that they are counted in."
    if isinstance(maker, TowerFeatures):
        rows = clone(maker).fit(frame).transform(frame)
        plain = rows.numbers * rows.features.scale_ + rows.features.mean_
        return np.c_[plain[:, -3:], rows.seen.sizes, rows.history.sizes]
    if not isinstance(maker, BoostedEncodings): return clone(maker).fit_transform(frame).to_numpy()
    model = clone(maker).fit(frame, targets(frame))
    return pd.concat([part.fit_transform(frame) for part in model.parts_.values()], axis=1).to_numpy()

@pytest.mark.parametrize('name', BY_TIME)
@pytest.mark.parametrize('share', [.3, .8])
def test_what_comes_later_changes_no_feature(frame, name, share):
    second = int(frame.tweet_time.quantile(share))
    past = cut_off(frame, second)
    assert targets(past).sum() < targets(frame.loc[past.index]).sum()     # labels were deleted, too
    assert np.allclose(by_time(BY_TIME[name], frame)[:len(past)], by_time(BY_TIME[name], past), atol=1e-4)

@pytest.mark.parametrize('name', BY_TIME)
def test_labels_later_than_a_row_do_not_count(frame, name):
    "All labels a week later: no row knows of any, so that what it has is what it would have without labels."
    late = frame.copy()
    for label in LABELS: late[f'{label}_time'] = late[f'{label}_time'] + 7 * 86_400
    none = features.changed_labels(frame, np.arange(len(frame)), 'taken away')
    if name == 'boosted': none.loc[none.index[-1], 'like_time'] = none.tweet_time.iloc[-1] + 9     # trees want a label
    assert np.allclose(by_time(BY_TIME[name], late), by_time(BY_TIME[name], none), atol=1e-4)
    assert not np.allclose(by_time(BY_TIME[name], frame), by_time(BY_TIME[name], none), atol=1e-4)


# boosted trees

@pytest.mark.parametrize('options', [dict(groups=('counts', 'encodings')), dict(groups=('encodings',), stacked=True), dict(groups=(), given=('vector',)),
                                     dict(groups=('ratios', 'history', 'follow'), follow='author')])
def test_boosted_trees_are_the_same_after_loading(options, frame, cell, tmp_path):
    whole, y = frame.assign(vector=np.random.default_rng(0).normal(size=len(frame))), targets(frame)
    model = BoostedEncodings(**SMALL | options).fit(whole.iloc[cell.train], y[cell.train, :2], (whole.iloc[cell.validation], y[cell.validation, :2]))
    test, folder = unlabelled(whole.iloc[cell.test]), model.save(tmp_path / 'model')
    answer = model.predict_proba(test)
    assert answer.shape == (len(test), 2) and answer.dtype == np.float32 and ((answer > 0) & (answer < 1)).all() and set(model.predict(test).ravel()) <= {0, 1}
    again = BoostedEncodings.load(folder)
    assert np.array_equal(again.predict_proba(test), answer) and again.get_params()['groups'] == list(model.groups)
    assert model.importances().shape == (len(model.names_), 2) and not list(folder.rglob('*.pkl'))
    check_no_leak(lambda frame: model.features(frame.iloc[cell.test]), whole, cell.test)

def test_boosted_trees_in_a_new_process(frame, cell, tmp_path, python):
    model = BoostedEncodings(**SMALL).fit(frame.iloc[cell.train], targets(frame)[cell.train, 1:2])
    test = frame.iloc[cell.test]
    as_table(test).write_parquet(tmp_path / 'test.parquet')
    code = ("import sys, json, polars as pl; from socialprof.retweet.columns import as_frame; from socialprof.retweet.encodings import BoostedEncodings; "
            "print(json.dumps(BoostedEncodings.load(sys.argv[1]).predict_proba(as_frame(pl.read_parquet(sys.argv[2])))[:, 0].tolist()))")
    run = python('-c', code, model.save(tmp_path / 'model'), tmp_path / 'test.parquet')
    assert run.returncode == 0, run.stderr
    assert np.array_equal(np.float32(json.loads(run.stdout)), model.predict_proba(test)[:, 0])

def test_boosted_trees_of_degenerate_rows(frame, cell, tmp_path):
    train, test = frame.iloc[cell.train], frame.iloc[cell.test]
    constant = BoostedEncodings(**SMALL).fit(train, np.ones((len(train), 1), int), (test, np.ones((len(test), 1), int)))
    assert np.allclose(constant.predict_proba(test), (len(train) + 1) / (len(train) + 2)) and constant.importances().to_numpy().sum() == 0
    assert np.array_equal(BoostedEncodings.load(constant.save(tmp_path / 'model')).predict_proba(test), constant.predict_proba(test))
    one = BoostedEncodings(**SMALL).fit(train.iloc[:1], [[1]])
    assert np.allclose(one.predict_proba(test), 2 / 3) and one.predict_proba(test.iloc[:0]).shape == (0, 1)
    bare = BoostedEncodings(**SMALL).fit(unlabelled(train), targets(train)[:, 1:2])
    assert bare.targets_ == ['target 0'] and np.isfinite(bare.predict_proba(test)).all()
    for wrong, told in ((dict(groups=('encoding',)), "write 'encodings'"), (dict(groups=()), 'at least one feature'), (dict(given=('vector',)), "'vector'")):
        with pytest.raises(ValueError, match=told): BoostedEncodings(**SMALL | wrong).fit(train, targets(train))
    with pytest.raises(FileNotFoundError, match='boosted.json'): BoostedEncodings.load(tmp_path)

def test_boosted_trees_refuse_training_rows(frame, cell):
    model = BoostedEncodings(**SMALL).fit(frame.iloc[cell.train], targets(frame)[cell.train])
    with pytest.raises(LeakError): model.predict_proba(frame.iloc[cell.train])
    assert model.predict_proba(frame.iloc[cell.test]).shape == (len(cell.test), len(LABELS))


# calibration

@pytest.mark.parametrize('share', [.2, .5, .8])
def test_down_sampling_changes_rce_and_not_prauc_and_the_correction_restores_it(share):
    rng = np.random.default_rng(1)
    x = rng.normal(size=(40_000, 1))
    p = 1 / (1 + np.exp(2.5 - 1.2 * x[:, 0]))
    y = rng.random(len(x)) < p
    from sklearn.linear_model import LogisticRegression
    rows, kept = calibration.downsample(y[:20_000], share)
    sampled = LogisticRegression(C=1e6).fit(x[rows], y[rows]).predict_proba(x[20_000:])[:, 1]
    whole = LogisticRegression(C=1e6).fit(x[:20_000], y[:20_000]).predict_proba(x[20_000:])[:, 1]
    score = lambda metric, shown: metric_of(metric).score(table_of(y[20_000:], shown))
    mended = calibration.corrected(sampled, kept)
    assert np.isclose(y[rows].mean(), share, atol=.01)
    assert score('rce', sampled) < score('rce', whole) - (2 if share == .2 else 30) and abs(score('rce', mended) - score('rce', whole)) < .5
    assert np.isclose(score('prauc', sampled), score('prauc', mended)) and abs(score('prauc', sampled) - score('prauc', whole)) < .005

def test_the_logged_formula_is_the_general_one_at_a_half():
    y = np.repeat([1, 0], [200, 1570])
    kept, p = calibration.downsample(y)[1], np.linspace(.01, .99, 9)
    r = 200 / 1570
    assert np.allclose(calibration.corrected(p, kept), p / (p + (1 - p) / r)) and np.isclose(kept, r)
    assert calibration.downsample([1, 1, 0])[1] == 1 and len(calibration.downsample([1, 1, 0])[0]) == 3
    with pytest.raises(ValueError, match='without'): calibration.downsample([0, 0])
    with pytest.raises(ValueError, match='kept'): calibration.corrected(p, 0)

@pytest.mark.parametrize('name', calibration.CALIBRATORS)
def test_calibrators_keep_order_and_mend_what_is_too_loud(name):
    rng = np.random.default_rng(2)
    true = rng.beta(1, 6, (8000, 2))
    Y, loud = (rng.random(true.shape) < true).astype(int), true**3 / (true**3 + (1 - true)**3)
    fitted = calibration.CALIBRATORS[name]().fit(loud[:4000], Y[:4000])
    mended = fitted.transform(loud[4000:])
    score = lambda shown: metric_of('rce').score(table_of(Y[4000:, 0], shown[:, 0]))
    assert score(mended) > score(loud[4000:]) + 5 and score(mended) > score(true[4000:]) - 2
    order = np.argsort(loud[4000:, 0])
    assert (np.diff(mended[order, 0]) >= -1e-7).all()
    with pytest.raises(ValueError, match='shape of Y'): fitted.fit(loud[:, :1], Y)

def test_groups_of_authors_and_cuts():
    assert calibration.popularity([240, 241, 588, 589, 1331, 1332, 3996, 3997]).tolist() == [0, 1, 1, 2, 2, 3, 3, 4]
    rng = np.random.default_rng(3)
    p = rng.random(500)
    table = table_of(rng.random(500) < p, p, author_followers=rng.integers(0, 6000, 500))
    found = calibration.by_popularity(table, ['rce:retweet'])
    groups = [metric_of('rce').score(part) for _, part in table.groupby(calibration.popularity(table.author_followers))]
    assert np.isclose(found['rce:retweet']['mean of groups'], np.mean(groups)) and list(found.index[-2:]) == ['mean of groups', 'all rows']
    cuts = calibration.thresholds(targets_of(table), p[:, None], ['retweet'], 1, 9)
    assert np.isclose(cuts.cost['retweet'], .1) and cuts['tuned cost']['retweet'] < .4
    worth = calibration.at_thresholds(targets_of(table), p[:, None], cuts, 1, 9).set_index('cut')
    assert worth.cost['tuned cost'] == worth.cost.min() and worth.f1['f1'] == worth.f1.max()

def targets_of(table): return (table.y == '1').to_numpy(int)[:, None]
