"""Exploration and matched pairs: effects inside accounts against a slow double, the level of the permutation test, and pairs against all pairs."""
import numpy as np
import pandas as pd
import pytest

from socialprof.core.folds import Cell
from socialprof.engagement import explore, pairs
from socialprof.lab.intervals import estimate
from socialprof.lab.predictions import check


def posts_of(seed, accounts=12, each=40, weekday=0., tail=1., trend=0.):
    "Posts whose Saturdays are worth `weekday` on the log scale; loud accounts post at weekends."
    rng = np.random.default_rng(seed)
    n = accounts * each
    account = np.repeat(np.arange(accounts), each)
    weekend = rng.random(n) < account / accounts / 2
    days = rng.integers(0, 700, n) // 7 * 7 + np.where(weekend, rng.integers(5, 7, n), rng.integers(0, 7, n))
    seconds = days * 86_400 + rng.integers(0, 86_400, n)
    level = rng.normal(3, 1, accounts)[account] + account / 4 + trend * days / 700
    likes = np.floor(np.exp(level + weekday * (days % 7 == 5) + rng.normal(0, tail, n)) - .5).clip(0)
    time = pd.Timestamp('2018-01-01', tz='UTC') + pd.to_timedelta(seconds, unit='s')
    text = [f'word{a} {"sale " * (i % 2)}and word{b} today' for i, (a, b) in enumerate(rng.integers(0, 4, (n, 2)))]
    return pd.DataFrame(dict(time=time, likes=likes, text=text, account=[f'a{i}' for i in account],
                             company=[f'c{i // 3}' for i in account], part='train'))


def slow_effects(frame):
    "Effects by a regression with a column for each account and each day."
    codes = frame.time.dt.day_of_week
    columns = np.hstack([pd.get_dummies(frame.account), np.eye(7)[codes]]).astype(float)
    values = np.linalg.lstsq(columns, np.log1p(frame.likes), rcond=None)[0][-7:]
    return values - values[codes].mean()

@pytest.mark.parametrize('seed', range(3))
def test_effects_are_those_of_a_regression_with_all_columns(seed):
    frame = posts_of(seed, weekday=.4)
    assert np.allclose(explore.weekday_effect(frame, permutations=0).values, slow_effects(frame))

def test_the_statistic_of_a_permutation_is_that_of_shuffled_labels():
    "Likes permuted inside accounts: each permutation is a frame of its own, fitted from the start."
    frame = posts_of(0, accounts=3, each=9)
    part = explore.inside_of(frame.likes, frame.account, explore.level_codes(frame, 'weekday'), 7)
    rng = np.random.default_rng(5)
    order = np.argsort(part.accounts + rng.random((1, len(frame))), axis=1)[0]
    shuffled = frame.assign(likes=frame.likes.to_numpy()[order])
    assert (shuffled.groupby('account').likes.sum() == frame.groupby('account').likes.sum()).all()
    assert np.allclose(part.effects(explore.permuted_sums(part, 1, 5))[0], slow_effects(shuffled))

def test_p_values_are_level_where_there_is_no_effect():
    "Loud accounts post at weekends, and yet the test stays at its level: of 80 worlds few have p below .1."
    p = np.array([explore.weekday_effect(posts_of(seed), permutations=99).p for seed in range(80)])
    assert (p < .1).mean() < .2 and .35 < p.mean() < .65

def test_means_of_days_are_fooled_where_the_test_is_not():
    frame = posts_of(3, accounts=20, each=100)
    table = explore.account_mix(frame).set_index('level')
    assert table['mean'][['Sat', 'Sun']].min() > table['mean'][['Tue', 'Wed', 'Thu']].max()
    assert explore.weekday_effect(frame).p > .02
    assert np.allclose(table.beyond[['Sat', 'Sun']], 1, atol=.2)

def test_the_planted_effect_lies_in_its_interval():
    inside = []
    for seed in range(40):
        effect = explore.weekday_effect(posts_of(seed, weekday=.6, each=60), permutations=0)
        one = explore.between(effect, 'Sat', 'Tue')
        inside.append(one['low'] < np.exp(.6) < one['high'])
    assert np.mean(inside) > .8      # 12 accounts; log(1 + likes) is a little below log(likes)

def test_a_trend_is_taken_out_with_months():
    frame = posts_of(0, trend=3.)
    plain, monthly = (explore.calendar_effect(frame, monthly=monthly, permutations=0) for monthly in (False, True))
    assert np.diag(monthly.covariance).sum() != np.diag(plain.covariance).sum() and monthly.units == plain.units

@pytest.mark.parametrize('frame', [posts_of(0).iloc[:1], posts_of(0).assign(likes=0.), posts_of(0).assign(account='one')],
                         ids=['one post', 'no likes', 'one account'])
def test_degenerate_posts_give_finite_or_missing_numbers(frame):
    frame = frame.reset_index(drop=True)
    effect = explore.weekday_effect(frame, permutations=19)
    assert 0 < effect.p <= 1 and not np.isinf(explore.effect_table(effect).ratio).any()
    table = explore.peak_and_low(frame, effect)
    assert table.verdict.isin(['holds', 'reversed', 'too close to call']).all()

def test_missing_times_and_hidden_likes_are_left_out():
    frame = posts_of(1)
    more = pd.concat([frame, frame.assign(time=pd.NaT), frame.assign(likes=np.nan)], ignore_index=True)
    more['time'] = pd.to_datetime(more.time, utc=True)
    assert np.allclose(explore.weekday_effect(more, permutations=9).values, explore.weekday_effect(frame, permutations=9).values)


def all_pairs(frame, rows, days, ratio, least, similarity):
    "Every pair of these rows that meets the rule, by two loops."
    matrix = pairs.word_rows(frame.text.iloc[pairs.usable_rows(frame, rows)]).toarray()
    order = pairs.usable_rows(frame, rows)
    matched = set()
    for i, a in enumerate(order):
        for j, b in enumerate(order):
            gap = (frame.time[b] - frame.time[a]).total_seconds() / 86_400
            high, low = max(frame.likes[[a, b]]), min(frame.likes[[a, b]])
            fits = high >= ratio * low and high - low >= least and matrix[i] @ matrix[j] >= similarity
            if frame.account[a] == frame.account[b] and j > i and gap <= days and fits: matched.add((int(a), int(b)))
    return matched

@pytest.mark.parametrize('rule', [dict(days=7, ratio=2, least=5, similarity=.5), dict(days=30, ratio=4, least=1, similarity=.1)],
                         ids=['near', 'far'])
def test_pairs_are_those_of_two_loops(rule, monkeypatch):
    frame = posts_of(2, accounts=4, each=50)
    rows = np.arange(0, len(frame), 2)
    monkeypatch.setattr(pairs, 'BLOCK', 7)
    monkeypatch.setattr(pairs, 'first_columns', lambda allowed, most=0: np.nonzero(allowed))
    table = pairs.matched_pairs(frame, rows=rows, once=False, **rule)
    assert set(zip(table['first'].tolist(), table['second'].tolist(), strict=True)) == all_pairs(frame, rows, **rule)
    assert len(table) > 5

def test_each_post_stands_in_one_pair_and_in_the_rows_that_are_allowed():
    frame = posts_of(4, each=80)
    rows = np.random.default_rng(0).choice(len(frame), 500, replace=False)
    table = pairs.matched_pairs(frame, rows=rows, days=60)
    both = pd.concat([table['first'], table['second']])
    assert not both.duplicated().any() and both.isin(rows).all() and len(table) > 30
    assert (frame.time[table['second']].to_numpy() >= frame.time[table['first']].to_numpy()).all()

def test_scores_read_no_test_likes_and_pairs_forget_accounts():
    "A score that knows nothing but the account is right half of the time, since all its pairs are ties."
    frame = posts_of(5, each=80)
    rows = np.arange(0, len(frame), 2)
    train = np.arange(1, len(frame), 2)
    table = pairs.matched_pairs(frame, rows=rows, days=60)
    account = frame.groupby('account').likes.transform('mean').to_numpy()
    assert pairs.pair_accuracy(account, table)['accuracy'] == .5
    hidden = frame.assign(likes=frame.likes.where(frame.index.isin(train)))
    blocks = dict(time=explore.clock(frame), text=pairs.word_rows(frame.text).toarray())
    for one, other in zip(pairs.pair_scores(blocks, frame, train).values(), pairs.pair_scores(blocks, hidden, train).values(), strict=True):
        assert np.array_equal(one, other)

def test_the_interval_of_pairs_is_that_of_the_table_of_predictions():
    frame = posts_of(6, accounts=20, each=80)
    rows = np.arange(0, len(frame), 2)
    table = pairs.matched_pairs(frame, rows=rows, days=60)
    score = np.log1p(frame.likes.to_numpy()) + np.random.default_rng(0).normal(0, 2, len(frame))
    own = pairs.pair_accuracy(score, table)
    predictions = pairs.pair_rows(dict(own=score), table, Cell(0, 0, 'random', rows, rows, None))
    check(predictions)
    lab = estimate(predictions[predictions.method == 'own | pairs'], 'accuracy')
    assert np.isclose(own['accuracy'], lab.value) and abs((own['high'] - own['low']) / (lab.high - lab.low) - 1) < .2

def test_no_pairs_is_no_error():
    frame = posts_of(7)
    table = pairs.matched_pairs(frame, similarity=1.1)
    assert table.empty and np.isnan(pairs.pair_accuracy(frame.likes, table)['accuracy'])
    assert pairs.pair_rows(dict(likes=frame.likes), table, Cell(0, 0, 'random', np.arange(3), np.arange(3), None)).empty
    assert pairs.pair_table(dict(likes=frame.likes), table).verdict.tolist() == ['not told from chance'] * 2

def test_a_calendar_forecast_is_better_where_the_effect_is_and_not_worse_where_it_is_not():
    gains = {}
    for effect in (0., .8):
        errors = []
        for seed in range(6):
            frame = posts_of(seed, weekday=effect, each=80)
            order = np.random.default_rng(seed).permutation(len(frame))
            test = order[600:]
            truth = np.log1p(frame.likes.to_numpy()[test])
            models = [explore.fit_calendar(frame, order[:600], columns) for columns in ((), ('weekday',))]
            errors.append([np.sqrt(np.mean((np.log1p(model(test)) - truth) ** 2)) for model in models])
        gains[effect] = np.subtract(*np.mean(errors, 0))
    assert gains[.8] > .02 and abs(gains[0.]) < .02
