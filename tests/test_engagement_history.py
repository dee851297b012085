"""What an account had before equals a sum by hand, post by post; test likes and unknown accounts change nothing."""
import numpy as np
import pandas as pd
import pytest

from socialprof.engagement.data import load
from socialprof.engagement.history import KEYS, PARENTS, WAYS, AccountHistory, keys_of

SHRINKAGE = 3.


def posts(n: int = 120, seed: int = 0) -> pd.DataFrame:
    "Posts with equal times, missing accounts and companies, and an index that is not 0, 1, 2, …"
    rng = np.random.default_rng(seed)
    account = rng.integers(0, 8, n)
    time = pd.Timestamp('2020-01-01', tz='UTC') + pd.to_timedelta(rng.integers(0, 40, n), unit='h')
    media = rng.choice(["[Photo(fullUrl='u')]", "[Gif(thumbnailUrl='u')]", ''], n)
    frame = pd.DataFrame(dict(account=[f'a{i}' if i else '' for i in account], time=time, media=media,
                              company=[f'c{i % 3}' if i % 3 else '' for i in account]))
    return frame.set_axis(rng.permutation(n) + 1000)


def by_hand(frame: pd.DataFrame, y: np.ndarray, row: int, others: np.ndarray, key: str) -> float:
    "The encoding of one row by the other rows, without the module's sums."
    level = y[others].mean() if others.any() else 0.
    for name in (*PARENTS[key], key):
        values = keys_of(frame, name)
        same = y[others & (values == values[row]) & (values != '')]
        level = (same.sum() + SHRINKAGE * level) / (len(same) + SHRINKAGE)
    return level


@pytest.mark.parametrize('key', KEYS)
def test_earlier_posts_are_summed_as_by_hand(key):
    frame = posts()
    y = np.random.default_rng(1).normal(5, 2, len(frame))
    rows = AccountHistory(shrinkage=SHRINKAGE, how='earlier').fit_transform(frame, y)
    times = frame.time.to_numpy()
    hand = [by_hand(frame, y, row, times < times[row], key) for row in range(len(frame))]
    np.testing.assert_allclose(rows[key], hand)
    assert rows.index.equals(frame.index)


@pytest.mark.parametrize('key', KEYS)
def test_with_a_fold_for_each_post_all_others_are_summed_as_by_hand(key):
    frame = posts(60)
    y = np.random.default_rng(1).normal(5, 2, len(frame))
    rows = AccountHistory(shrinkage=SHRINKAGE, folds=60).fit_transform(frame, y)
    place = np.arange(60)
    np.testing.assert_allclose(rows[key], [by_hand(frame, y, row, place != row, key) for row in range(60)])
    assert rows.index.equals(frame.index)


@pytest.mark.parametrize('how', WAYS)
def test_posts_without_an_account_share_no_history(how):
    frame = posts().assign(account='')
    history = AccountHistory(how=how)
    rows = history.fit_transform(frame, np.arange(120.))
    assert (rows.posts == 0).all() and (history.transform(frame).posts == 0).all()
    pd.testing.assert_series_equal(rows.account, rows.company, check_names=False)


@pytest.mark.parametrize('how', WAYS)
def test_without_shrinkage_an_unknown_account_has_the_level_above(how):
    frame = posts()
    y = np.random.default_rng(1).normal(5, 2, len(frame))
    history = AccountHistory(shrinkage=0., how=how)
    assert history.fit_transform(frame, y).notna().all(axis=None)
    one = history.transform(pd.DataFrame(dict(account=['a1', 'new', 'new'], company=['c1', 'c1', 'new'], media='')))
    means = [y[frame.account == 'a1'].mean(), y[frame.company == 'c1'].mean(), y.mean()]
    np.testing.assert_allclose(one.account, means)


@pytest.mark.parametrize('how', WAYS)
def test_test_likes_change_no_encoding(how):
    frame, _ = load('likes', rows=600, seed=1)
    train = frame[frame.part == 'train'].dropna(subset='likes')
    tables = []
    for likes in (frame.likes, frame.likes * 7 + 1000, frame.likes * np.nan):
        changed = frame.assign(likes=frame.likes.where(frame.part == 'train', likes))
        history = AccountHistory(how=how)
        own = history.fit_transform(changed.loc[train.index], np.log1p(changed.likes[train.index]))
        tables.append(pd.concat([own, history.transform(changed[changed.part != 'train'])]))
    assert len(tables[0]) > len(train)
    for table in tables[1:]: pd.testing.assert_frame_equal(table, tables[0])


def test_an_unseen_company_has_the_mean_of_all():
    frame, _ = load('likes', rows=600, seed=1)
    train = frame[frame.part == 'train'].dropna(subset='likes')
    history = AccountHistory().fit(train, np.log1p(train.likes))
    unseen = frame[(frame.part == 'company') & ~frame.company.isin(train.company)]
    assert len(unseen)
    np.testing.assert_allclose(history.transform(unseen)[[*KEYS]], np.log1p(train.likes).mean())
