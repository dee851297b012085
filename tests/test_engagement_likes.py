"""Models of likes read no answer: renamed targets, ids, own neighbours, shuffled columns, and likes that say nothing."""
import sys

import numpy as np
import pandas as pd
import pytest

from socialprof.core.config import MissingPackage
from socialprof.engagement.bands import Bands, QuantileBands, coverage
from socialprof.engagement.boost import PARAMETERS, TARGETS, AccountMean, LikesBooster, LinearProbe, constant_scores, duan_factor, tuned
from socialprof.engagement.ensemble import WEIGHTS, Blend, folds_of, out_of_fold
from socialprof.engagement.features import Features, LeakError, feature_table, guard, same_columns
from socialprof.engagement.neighbours import COMBINE, INDEXES, LikesNeighbours

QUICK = dict(rounds=40, rate=.1)


def posts(n: int = 1200, seed: int = 0) -> tuple[pd.DataFrame, np.ndarray, np.ndarray]:
    "(table, likes, account of each): likes follow the account's habit, the weekday and one other column."
    rng = np.random.default_rng(seed)
    account = rng.integers(0, 40, n)
    habit = np.random.default_rng(7).normal(4, 1.5, 40)[account]
    table = pd.DataFrame(dict(habit=habit, weekday=rng.integers(0, 7, n), words=rng.integers(3, 60, n), text_0=rng.normal(size=n)))
    level = habit + .3 * (table.weekday > 4) + .5 * table.text_0 + rng.normal(0, 1, n)
    return table, np.floor(np.expm1(np.maximum(level.to_numpy(), 0))), account


def skill(y: np.ndarray, predicted: np.ndarray) -> float:
    "1 − squared error on the log scale over that of the test rows' own mean."
    z = np.log1p(y)
    return 1 - np.mean((np.log1p(predicted) - z) ** 2) / z.var()


def models() -> dict:
    "Everything that learns from a table."
    boosters = {f'{library}, {target}': LikesBooster(library, target, **QUICK) for library in ('xgboost', 'lightgbm') for target in TARGETS}
    return boosters | {'probe': LinearProbe(), 'quantiles': QuantileBands(rounds=10)}


def fit(model, table, y):
    "Fit any of `models`."
    return model.fit(table, y, (table, y)) if isinstance(model, QuantileBands) else model.fit(table, y)


# L1, L2: what tells the answer, or the row

DISGUISES = dict(log1p=np.log1p, negative=np.negative, squared=np.square, published=lambda y: np.log(y + 1e-10), ranks=lambda y: pd.Series(y).rank().to_numpy(),
                 noisy=lambda y: np.log1p(y) + np.random.default_rng(3).normal(0, .05, len(y)))

@pytest.mark.parametrize('disguise', DISGUISES)
def test_renamed_target_is_refused(disguise):
    table, y, _ = posts()
    leaky = table.assign(text_1=DISGUISES[disguise](y))
    with pytest.raises(LeakError, match="'text_1' orders the posts as their likes do"): guard(leaky, y)

@pytest.mark.parametrize('name', models())
def test_no_model_takes_the_target(name):
    table, y, _ = posts(300)
    with pytest.raises(LeakError, match='renamed'): fit(models()[name], table.assign(text_1=np.log1p(y)), y)
    with pytest.raises(LeakError, match='only after the post'): fit(models()[name], table.assign(Likes=0.), y)

@pytest.mark.parametrize('name', ['likes', 'log_likes', 'log1p(likes)', 'reply_count', 'Retweets', 'viewCount', 'level', 'topic'])
def test_later_outcomes_are_refused_by_name(name):
    with pytest.raises(LeakError, match='only after the post'): guard(posts(60)[0].assign(**{name: 1.}))

@pytest.mark.parametrize('name', ['id', 'ID', 'tweet_id', 'Unnamed: 0', 'index'])
def test_id_first_is_refused(name):
    table, y, _ = posts(300)
    first = pd.concat([pd.Series(np.arange(300), name=name), table], axis=1)
    with pytest.raises(LeakError, match='numbers the rows'): guard(first, y)

@pytest.mark.parametrize('rows', [slice(None), slice(None, None, 7), np.random.default_rng(0).permutation(1200)[:500]])
def test_renamed_id_is_refused(rows):
    table = posts()[0].assign(text_1=np.arange(1, 1201)).iloc[rows]
    with pytest.raises(LeakError, match='as an id does'): guard(table)

def test_the_published_accident_is_refused():
    "The log of the likes first in training, the id in its place at the test: as many columns, and a forecast for each."
    table, y, _ = posts(400)
    train = pd.concat([pd.Series(np.log(y + 1e-10), name='log likes'), table], axis=1)
    with pytest.raises(LeakError): LikesBooster(**QUICK).fit(train, y)
    model = LikesBooster(**QUICK).fit(table.rename(columns=dict(habit='a')), y)
    with pytest.raises(LeakError, match="'id'"): model.predict(table.rename(columns=dict(habit='id')))

def test_honest_tables_pass():
    "No feature is refused for what chance does, in any of 30 small or larger tables."
    for seed in range(30):
        table, y, account = posts([30, 60, 400][seed % 3], seed)
        length = np.random.default_rng(seed).integers(20, 540, len(y))
        seconds = np.random.default_rng(seed).integers(0, 9e5, len(y))
        assert guard(table.assign(length=length, seconds=seconds), y).values.shape == (len(y), 6)
    assert guard(table.assign(habit=np.nan), y).names[0] == 'habit'


# impossible values, names and order

@pytest.mark.parametrize('name', ['weekday', 'day of week', 'Day_of_Week', 'dayofweek'])
def test_weekday_twelve_is_refused(name):
    table, y, _ = posts(60)
    table = table.rename(columns=dict(weekday=name))
    model = LikesBooster(**QUICK).fit(table, y)
    wrong = table.copy()
    wrong.loc[5, name] = 12
    with pytest.raises(ValueError, match='from 0 to 6, found 12 in row 5'): guard(wrong)
    with pytest.raises(ValueError, match='from 0 to 6, found 12 in row 5'): LikesBooster(**QUICK).fit(wrong, y)
    with pytest.raises(ValueError, match='from 0 to 6, found 12 in row 5'): model.predict(wrong)
    with pytest.raises(ValueError, match='from 0 to 6, found 12 in row 5'): model.fit(table, y, (wrong, y))

def answers(model, table):
    "Forecasts or bands of any model."
    return model.interval(table) if isinstance(model, QuantileBands) else model.predict(table)

@pytest.mark.parametrize('name', models())
def test_other_columns_at_predict_are_refused(name):
    table, y, _ = posts(200)
    model = fit(models()[name], table, y)
    assert np.isfinite(np.asarray(answers(model, table))).all()
    for other in (table[table.columns[::-1]], table.rename(columns=dict(words='length')), table.drop(columns='words'), table.assign(more=1.)):
        with pytest.raises(LeakError): answers(model, other)

def test_neighbours_refuse_other_columns():
    table, y, _ = posts(200)
    model = LikesNeighbours().fit(table, y)
    with pytest.raises(LeakError): model.predict(table[table.columns[::-1]])
    with pytest.raises(ValueError, match='missing one in row 3'): model.predict(table.assign(text_0=np.where(np.arange(200) == 3, np.nan, 0)))

def test_features_are_a_table():
    table, *_ = posts(10)
    whole = feature_table(dict(clock=table[['weekday']], text=np.zeros((10, 3))))
    assert whole.names == ('weekday', 'text 0', 'text 1', 'text 2') and same_columns(whole.names, whole) is whole
    assert guard(whole) is whole and isinstance(whole[:2], Features)
    with pytest.raises(ValueError, match='once'): feature_table(dict(a=table, b=table))
    with pytest.raises(TypeError, match='words'): guard(table.assign(company='cnn'))


# L3: likes that say nothing

def parts(split: str, account: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    "(training rows, test rows)."
    n = len(account)
    test = dict(random=np.random.default_rng(5).random(n) < .3, account=account < 12, time=np.arange(n) >= .7 * n)[split]
    return np.flatnonzero(~test), np.flatnonzero(test)

LEARNERS = {
    'lightgbm': lambda table, y, account: LikesBooster(**QUICK).fit(table, y).predict,
    'lightgbm, stopped': lambda table, y, account: LikesBooster(**QUICK, early_stopping=5).fit(table[::2], y[::2], (table[1::2], y[1::2])).predict,
    'xgboost': lambda table, y, account: LikesBooster('xgboost', depth=4, **QUICK).fit(table, y).predict,
    'neighbours, log-mean': lambda table, y, account: LikesNeighbours(combine='log-mean').fit(table, y).predict,
    'neighbours, median': lambda table, y, account: LikesNeighbours(combine='median', keep='percentiles').fit(table, y).predict,
    'probe': lambda table, y, account: LinearProbe().fit(table, y).predict}

@pytest.mark.parametrize('split', ['random', 'account', 'time'])
@pytest.mark.parametrize('learner', LEARNERS)
def test_permuted_likes_teach_nothing(learner, split):
    table, y, account = posts()
    train, test = parts(split, account)
    permuted = np.random.default_rng(11).permutation(y)
    skills = {}
    for name, likes in dict(true=y, permuted=permuted).items():
        predict = LEARNERS[learner](table.iloc[train].reset_index(drop=True), likes[train], account[train])
        skills[name] = skill(likes[test], predict(table.iloc[test]))
    assert skills['permuted'] <= 0 and skills['true'] > .1, skills

@pytest.mark.parametrize('kind', WEIGHTS)
def test_permuted_likes_teach_a_blend_nothing(kind):
    table, y, account = posts()
    likes = np.random.default_rng(11).permutation(y)
    members = {name: lambda train, rows, name=name: LEARNERS[name](table.iloc[train], likes[train], account[train])(table.iloc[rows])
               for name in ('neighbours, log-mean', 'probe')}
    train, test = parts('random', account)
    inside = out_of_fold({name: lambda a, b, member=member: member(train[a], train[b]) for name, member in members.items()}, folds_of(account[train]))
    outside = pd.DataFrame({name: member(train, test) for name, member in members.items()})
    assert skill(likes[test], Blend(kind).fit(inside, likes[train]).predict(outside)) <= 0

def test_account_mean_of_permuted_likes():
    _, y, account = posts()
    train, test = parts('random', account)
    for likes, honest in ((y, True), (np.random.default_rng(11).permutation(y), False)):
        assert (skill(likes[test], AccountMean().fit(account[train], likes[train]).predict(account[test])) > 0) == honest


# L5: nobody is its own neighbour

@pytest.mark.parametrize('index', INDEXES)
@pytest.mark.parametrize('seed', range(4))
def test_no_post_finds_itself(index, seed):
    "Whatever the batches, the order, and copies of vectors under other ids."
    rng = np.random.default_rng(seed)
    vectors = rng.normal(size=(700, 6)).astype(np.float32)
    vectors[500:] = vectors[:200]      # two hundred pairs of equal vectors
    y = np.floor(rng.lognormal(4, 2, 700))
    ids = rng.permutation(10_000)[:700]
    model = LikesNeighbours(index, nlist=12, nprobe=4, k=4).fit(vectors, y, ids)
    order = rng.permutation(700)[:int(rng.integers(300, 700))]
    by_batch = []
    for batch in (1, 13, 100, 5000):
        model.set_params(batch=batch)
        places, distances = model.neighbours(vectors[order], ids[order])
        assert not (ids[places] == ids[order][:, None]).any() and (places >= 0).mean() > .98
        assert (np.diff(distances, axis=1) >= 0).all()
        by_batch.append(model.predict(vectors[order], ids[order]))
    # FAISS names nearly the same posts for any size of a batch
    assert all((by_batch[0] == other).mean() > .99 for other in by_batch[1:])
    if index == 'flat': assert all(distances[i, 0] == 0 for i in np.flatnonzero(order >= 500))   # its twin is found

@pytest.mark.parametrize('index', INDEXES)
def test_likes_of_the_post_itself_do_not_matter(index):
    vectors = np.random.default_rng(0).normal(size=(300, 6)).astype(np.float32)
    y = np.floor(np.random.default_rng(1).lognormal(4, 2, 300))
    ids = np.arange(300)
    for combine in COMBINE:
        model = LikesNeighbours(index, nlist=4, nprobe=4, k=5, combine=combine).fit(vectors, y, ids)
        before = model.predict(vectors[:1], ids[:1])
        model.likes_ = np.where(ids == 0, 1e6, y)
        assert np.array_equal(model.predict(vectors[:1], ids[:1]), before)
        assert model.predict(vectors[:1])[0] != before[0] or combine in ('median', 'distance-weighted')   # without ids it is asked as a stranger

def test_training_posts_without_ids_are_refused():
    table, y, _ = posts(300)
    model = LikesNeighbours().fit(table, y)
    with pytest.raises(LeakError, match='would find itself'): model.predict(table.sample(frac=1, random_state=0))
    assert np.isfinite(model.predict(posts(300, seed=1)[0])).all()


# scales, settings, files

def test_what_a_constant_scores():
    y = np.where(np.random.default_rng(0).random(50_000) < .13, 0, np.floor(np.random.default_rng(1).lognormal(4.6, 2, 50_000)))
    scores = constant_scores(y)
    for name in ('log1p', 'ln+1e-10', 'raw'):
        assert np.isclose(scores.score[name], TARGETS[name][0](y).std())
    assert scores.score['log1p'] < 3.69 and scores.score['ln+1e-10'] > 8.33   # the report's figures lie between them
    assert scores.rmse_log1p.idxmin() == 'log1p' and scores.rmse_raw.min() == scores.rmse_raw['raw']

def test_the_rate_of_the_report_hardly_moves():
    "Of the way from a constant to the data, 1 − (1 − rate) ^ rounds is gone."
    table, y, _ = posts(400)
    slow = LikesBooster(**PARAMETERS['report'] | dict(rounds=200, early_stopping=0)).fit(table, y)
    moved = (slow.predict_scale(table) - np.log1p(y).mean()).std() / np.log1p(y).std()
    assert slow.trees_ == 200 and 0 < moved < 1 - (1 - 1e-4) ** 200 + .002

def test_smearing_restores_the_mean():
    rng = np.random.default_rng(0)
    table = pd.DataFrame(dict(habit=rng.normal(4, 1, 4000)))
    y = np.expm1(np.maximum(table.habit.to_numpy() + rng.normal(0, .8, 4000), 0))
    train, others = slice(0, 2000), slice(2000, 4000)
    ratio = {}
    for smearing in (False, True):
        model = LikesBooster(**QUICK, smearing=smearing, leaves=8).fit(table[train], y[train], (table[others], y[others]))
        ratio[smearing] = model.predict(table[others]).sum() / y[others].sum()
    assert ratio[False] < .85 and .9 < ratio[True] < 1.1 and np.isclose(duan_factor(rng.normal(0, .8, 100_000)), np.exp(.32), rtol=.02)

@pytest.mark.parametrize('library', ['xgboost', 'lightgbm'])
def test_missing_package_is_named(library, monkeypatch):
    monkeypatch.setitem(sys.modules, library, None)
    table, y, _ = posts(60)
    with pytest.raises(MissingPackage, match=library): LikesBooster(library, **QUICK).fit(table, y)

def test_missing_faiss_and_optuna_are_named(monkeypatch):
    for package in ('faiss', 'optuna'): monkeypatch.setitem(sys.modules, package, None)
    table, y, _ = posts(60)
    with pytest.raises(MissingPackage, match='faiss'): LikesNeighbours().fit(table, y)
    with pytest.raises(MissingPackage, match='optuna'): tuned(LikesBooster(), table, y, (table, y), trials=1)

def test_nothing_is_pickled(tmp_path):
    table, y, account = posts(200)
    for k, model in enumerate([fit(model, table, y) for model in models().values()] + [LikesNeighbours().fit(table, y), Bands().fit(y, y, account % 2)]):
        model.save(tmp_path / str(k))
        again = type(model).load(tmp_path / str(k))
        assert again.get_params() == model.get_params()
        if not isinstance(model, Bands | LikesNeighbours): assert np.array_equal(answers(again, table), answers(model, table))
    files = [path for path in tmp_path.rglob('*') if path.is_file()]
    assert {path.suffix for path in files} == {'.json', '.txt', '.safetensors', '.faiss'}
    assert not any(path.read_bytes()[:1] == b'\x80' for path in files if path.suffix != '.safetensors')

def test_a_model_half_written_is_none(tmp_path):
    table, y, _ = posts(60)
    LikesBooster(**QUICK).fit(table, y).save(tmp_path)
    (tmp_path / 'likes.json').unlink()
    with pytest.raises(FileNotFoundError, match='likes.json'): LikesBooster.load(tmp_path)

def test_bands_hold_their_share():
    rng = np.random.default_rng(0)
    predicted = np.expm1(rng.normal(5, 1, 6000))
    y = np.floor(np.expm1(np.maximum(np.log1p(predicted) + rng.standard_t(3, 6000), 0)))
    for level in (.5, .8, .95):
        table = coverage(Bands(level).fit(predicted[:3000], y[:3000]).interval(predicted[3000:]), y[3000:])
        assert abs(table.inside['all'] - level) < .03 and table.low['all'] < table.inside['all'] < table.high['all']
