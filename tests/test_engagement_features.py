"""Columns of posts know nothing of a post's own likes, of test likes, or of later posts; cleaning keeps what is protected."""
import numpy as np
import pandas as pd
import pytest

from socialprof.engagement.clean import CLEANINGS, Cleaning, cleaned
from socialprof.engagement.derive import company_of, counts, date_parts, sentiment, since_last
from socialprof.engagement.history import WAYS, AccountHistory


def posts(n: int = 400, seed: int = 0) -> pd.DataFrame:
    "Posts of twelve accounts in four companies; times in whole minutes, so that some are equal."
    rng = np.random.default_rng(seed)
    account = rng.integers(0, 12, n)
    time = pd.Timestamp('2020-01-01', tz='UTC') + pd.to_timedelta(rng.integers(0, 3000, n), unit='min')
    return pd.DataFrame(dict(account=[f'a{i}' for i in account], company=[f'c{i % 4}' for i in account], time=time,
                             media=rng.choice(["[Photo(fullUrl='u')]", ''], n), likes=rng.lognormal(2 + account % 5, 1, n).round()))


@pytest.mark.parametrize('how', [*WAYS])
def test_a_history_does_not_know_a_posts_own_likes(how):
    frame = posts()
    y = np.log1p(frame.likes.to_numpy())
    plain = AccountHistory(how=how).fit_transform(frame, y)
    for row in (0, 57, 399):
        changed = y.copy()
        changed[row] += 10
        again = AccountHistory(how=how).fit_transform(frame, changed)
        assert again.iloc[row].equals(plain.iloc[row])
        assert not again.equals(plain)   # others may know it


def test_encodings_do_not_change_when_test_likes_change():
    frame = posts()
    train, test = frame.iloc[:300], frame.iloc[300:]
    history = AccountHistory().fit(train, np.log1p(train.likes))
    assert history.transform(test).equals(history.transform(test.assign(likes=-1.)))


def test_earlier_means_strictly_earlier():
    frame = posts()
    y = np.log1p(frame.likes.to_numpy())
    plain = AccountHistory(how='earlier').fit_transform(frame, y)
    cut = frame.time.sort_values().iloc[200]
    early = (frame.time <= cut).to_numpy()
    part = AccountHistory(how='earlier').fit_transform(frame[early], y[early])
    pd.testing.assert_frame_equal(part, plain[early])           # later posts do not count
    changed = np.where(frame.time == cut, y + 5, y)
    at_once = AccountHistory(how='earlier').fit_transform(frame, changed)
    pd.testing.assert_frame_equal(at_once[early], plain[early])  # nor do those of the same moment


def test_shuffled_likes_give_a_history_without_skill():
    frame = posts(4000)
    y = np.random.default_rng(1).permutation(np.log1p(frame.likes.to_numpy()))
    for how in WAYS: assert abs(np.corrcoef(AccountHistory(how=how).fit_transform(frame, y).account, y)[0, 1]) < .06


def test_unknown_accounts_and_companies_fall_back():
    frame = posts()
    y = np.log1p(frame.likes.to_numpy())
    history = AccountHistory(keys=('account', 'company')).fit(frame, y)
    new = pd.DataFrame(dict(account=['a0', 'new', 'new'], company=['c0', 'c0', 'new'], media=''))
    table = history.transform(new)
    assert table.account[1] == table.company[1] and table.account[2] == pytest.approx(y.mean()) and table.posts.tolist()[1:] == [0, 0]


def test_a_kept_history_is_equal(tmp_path):
    frame = posts()
    history = AccountHistory(shrinkage=3.).fit(frame, np.log1p(frame.likes))
    again = AccountHistory.load(history.save(tmp_path / 'history'))
    assert again.transform(frame).equals(history.transform(frame)) and again.get_params() == history.get_params()
    assert [path.name for path in (tmp_path / 'history').iterdir()] == ['history.json']


def test_hidden_likes_are_refused():
    frame = posts(10)
    with pytest.raises(ValueError, match='2 that are hidden'): AccountHistory().fit(frame, [1.] * 8 + [np.nan] * 2)
    with pytest.raises(ValueError, match='10 posts, found 3'): AccountHistory().fit(frame, [1.] * 3)
    with pytest.raises(ValueError, match='found none'): AccountHistory().fit(frame[:0], [])


def test_the_time_since_the_last_post_knows_no_later_post():
    frame = posts()
    whole = since_last(frame)
    for share in (.2, .5, .9):
        early = frame[frame.time <= frame.time.quantile(share)]
        pd.testing.assert_frame_equal(since_last(early), whole.loc[early.index])
    assert (whole.seconds.dropna() >= 0).all() and whole['first'].sum() == frame.company.nunique()
    assert whole.seconds.isna().eq(whole['first'] == 1).all()
    twins = frame.sort_values('time', kind='stable')
    equal = twins.duplicated(['company', 'time'])
    assert equal.any() and (whole.loc[twins.index[equal], 'seconds'] == 0).all()
    shuffled = frame.sample(frac=1, random_state=0)
    assert since_last(shuffled)['first'].sum() == whole['first'].sum()


def test_a_company_named_later_changes_no_pause():
    frame = posts()
    frame['company'] = frame.company.where(np.random.default_rng(3).random(len(frame)) < .1, '')
    whole = since_last(frame)
    for share in (.05, .2, .5, .9):
        early = frame[frame.time <= frame.time.quantile(share)]
        pd.testing.assert_frame_equal(since_last(early), whole.loc[early.index])


def test_test_posts_see_training_and_earlier_test_posts_only():
    frame = posts().sort_values('time', kind='stable')
    train = frame[:300]
    test = frame[300:]
    whole = since_last(frame).loc[test.index]
    pd.testing.assert_frame_equal(since_last(test, before=train), whole)
    assert since_last(test)['first'].sum() > whole['first'].sum()                    # without training, more are first
    pd.testing.assert_frame_equal(since_last(test[:40], before=train), whole[:40])   # later test posts do not count
    changed = train.assign(likes=0.)
    pd.testing.assert_frame_equal(since_last(test.assign(likes=0.), before=changed), whole)


def test_missing_companies_come_from_the_account():
    frame = pd.DataFrame(dict(account=['x', 'x', 'x', 'FCBayern'], company=['a', 'b', '', ''], time=pd.NaT))
    frame.loc[1, 'company'] = 'a'
    assert company_of(frame).tolist() == ['a', 'a', 'a', 'fc bayern']
    assert since_last(frame.assign(time=pd.to_datetime([None] * 4, utc=True))).seconds.isna().all()


def test_parts_of_a_time():
    table = date_parts(pd.DataFrame(dict(time=pd.date_range('2020-02-24', periods=168, freq='h', tz='UTC'))))
    assert sorted(table.weekday.unique()) == [*range(7)] and sorted(table.hour.unique()) == [*range(24)] and table.weekday[0] == 0


def test_counts_and_sentiment_of_odd_texts():
    texts = ['', ' ', '#a #b @c <mention> <hyperlink> https://x.y', '🙂🙂', 'NO!!!']
    table = counts(texts)
    assert table.tags.tolist() == [0, 0, 2, 0, 0] and table.mentions[2] == 2 and table.links[2] == 2 and table.emoji[3] == 2 and table.marks[4] == 3
    assert len(sentiment(texts)) == 5 and sentiment([]).empty and not sentiment(texts).isna().any().any()


PROTECTED = '#SoupNight @someone <mention> EuroLeague CNN'

@pytest.mark.parametrize('switch', ['spelling', 'punctuation', 'stop_words', 'lemmas', 'links', 'lower', 'mentions'])
def test_names_tags_and_placeholders_are_protected(switch):
    expected = {'lower': PROTECTED.lower(), 'mentions': '#SoupNight EuroLeague CNN'}.get(switch, PROTECTED)
    assert cleaned([PROTECTED], Cleaning(**{switch: True})) == [expected]


def test_every_switch_does_something_and_none_is_the_same():
    post = 'The stores were openning, see <hyperlink> <mention> Today!'
    plain = cleaned([post], CLEANINGS['none'])[0]
    assert plain == post
    for switch in ('links', 'mentions', 'spelling', 'lower', 'punctuation', 'stop_words', 'lemmas'):
        assert cleaned([post], Cleaning(**{switch: True}))[0] != post, switch
    assert cleaned([post, post], Cleaning(company=True), ['cnn', 'bbc']) == [f'{post} cnn', f'{post} bbc']
    assert cleaned(['', '!!!'], CLEANINGS['report, code'], ['a', 'b']) == ['a', 'b']


@pytest.mark.parametrize('text, expected', [
    ("We're proud, and they don't care", 'proud care'),
    ("Boeing&amp;Cisco: this year's report", 'boeing cisco year report'),
    ('In the U.S. 200,000 people', 'us 200000 people'),
    ('नमस्ते। हिन्दी!', 'नमस्ते हिन्दी'),
    ('THE SOUP IS READY', 'soup ready'),
    ('soup 🍲!', 'soup 🍲'),
    ('.@CNN’s report (#Soup):', '@cnn report #soup'),
    ('&lt;b&gt; -- <hyperlink>', 'b'),
    ('soup—#SoupNight/#b', 'soup #soupnight #b'),
    ('see…<mention>/#tag-led', '<mention> #tag led'),
    ('hi@soup.org', 'hi soup org'),
    ('<mention>/<mention> #a/#b', '<mention> <mention> #a #b'),
])
def test_marks_and_short_forms(text, expected):
    rules = Cleaning(links=True, lower=True, punctuation=True, stop_words=True)
    assert cleaned([text], rules) == [expected]


def test_spelling_leaves_what_it_does_not_know():
    stays = 'Labor Evning labor phony leakers mtgs sooo naïve fuerte abrazo covid19 econo… #tpyo @recieved <hyperlink>'
    assert cleaned([stays], Cleaning(spelling=True)) == [stays]
    assert cleaned(['(recieved, untill "tomorow")'], Cleaning(spelling=True)) == ['(received, until "tomorrow")']


def test_a_text_is_cleaned_alike_whatever_is_beside_it():
    texts = ['THE SOUP', 'the soup', 'The US and us', '', "don't"] * 3
    for cleaning in CLEANINGS.values():
        together = cleaned(texts, cleaning, ['cnn'] * 15)
        assert together == [cleaned([text], cleaning, ['cnn'])[0] for text in texts]


def test_cleaning_names_what_is_wrong():
    with pytest.raises(TypeError, match=r"texts\[1\]: expected str, found nan"): cleaned(['a', float('nan')], Cleaning(lower=True))
    with pytest.raises(ValueError, match='expected `companies`, found none'): cleaned(['a'], CLEANINGS['report'])
    with pytest.raises(ValueError): cleaned(['a', 'b'], Cleaning(company=True), ['cnn'])
