"""The engagement twin: every damage is named, what is written reads back, effects can be removed, and real files pass where there are any."""
import gzip, os, re, sys, warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

sys.path.insert(0, str(Path(__file__).parent))
from corrupt_engagement import CHANGES, FILES, KINDS, ODDITIES, ROWS, SHEETS, corrupt, corrupt_sheet

from socialprof.core.formats import FormatError
from socialprof.core.reading import read_aside
from socialprof.engagement import data
from socialprof.engagement.drawings import draw_pictures
from socialprof.engagement.media import Medium, as_text, media_of, picture_url
from socialprof.engagement.world import HIDDEN, WEIGHTS, posts_world

REAL = Path(os.environ.get('SOCIALPROF_SHARED_DATA') or Path(__file__).resolve().parents[2] / 'shared' / 'data') / 'likes'
TRAIN = 'behaviour_simulation_train.csv'
WORLD = posts_world(12, 60, seed=3)
SMALL = WORLD[WORLD.part == 'train'].drop(columns=[*HIDDEN]).reset_index(drop=True)


@pytest.fixture(autouse=True)
def quiet(tmp_path_factory, monkeypatch):
    "What reading merely notes is tested below; the cache is one of the test's own."
    monkeypatch.setenv('SOCIALPROF_CACHE', str(tmp_path_factory.mktemp('cache')))
    with warnings.catch_warnings():
        warnings.simplefilter('ignore', UserWarning)
        yield


def same(frame: pd.DataFrame, expected: pd.DataFrame, but: str = ''):
    columns = [name for name in expected if name != but]
    pd.testing.assert_frame_equal(frame[columns].reset_index(drop=True), expected[columns].reset_index(drop=True))

def notes_of(frame: pd.DataFrame) -> list[str]:
    "The notes of a reading, but for those on files of the challenge that are not there."
    return [note for note in frame.attrs['reading']['oddities'] if 'not there' not in note and 'further columns' not in note]


@pytest.mark.parametrize('kind', KINDS)
def test_every_damage_is_named(kind, tmp_path):
    for seed in range(3):
        folder = data.write(SMALL, tmp_path / str(seed))
        words = corrupt(folder / TRAIN, kind, KINDS, seed)
        with pytest.raises(FormatError) as refused: data.read(folder)
        problems = [str(problem).replace('\n', ' ') for problem in refused.value.problems]
        place = r'[^:]*' if 'at least one post' in words else r'[^:]*behaviour_simulation_train\.csv(:\d+)?'
        assert all(re.match(place + ': expected .+, found .+; .+', problem) for problem in problems), problems
        assert words in str(refused.value), str(refused.value)
        assert kind in FILES or all(problem.line for problem in refused.value.problems)


@pytest.mark.parametrize('kind', ODDITIES)
def test_what_changes_no_result_is_read_and_noted(kind, tmp_path):
    folder = data.write(SMALL, tmp_path / 'folder')
    words = corrupt(folder / TRAIN, kind, ODDITIES)
    frame = data.read(folder)
    notes = notes_of(frame)
    assert any(words in note for note in notes) if words else not notes, notes
    same(frame, SMALL, 'sector' if kind == 'names in capitals' else '')


@pytest.mark.parametrize('kind', CHANGES)
def test_what_is_missing_or_unreadable_is_noted(kind, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = data.write(SMALL, tmp_path / 'folder')
    words = corrupt(folder / TRAIN, kind, CHANGES)
    frame = data.read(folder)
    notes = notes_of(frame)
    assert any(words in note for note in notes) if words else not notes, notes
    same(frame, SMALL, CHANGES[kind][2])
    assert not (tmp_path / 'made-by-code').exists() and (kind != 'media that are code' or (frame.media == '').all())


@pytest.mark.parametrize('kind', ROWS)
def test_rows_set_aside_are_kept_to_the_byte(kind, tmp_path):
    for seed in range(3):
        folder = data.write(SMALL, tmp_path / str(seed))
        corrupt(folder / TRAIN, kind, ROWS, seed)
        damaged = (folder / TRAIN).read_bytes()
        frame = data.read(folder, bad_rows='set-aside')
        (entry, raw), = read_aside(frame.attrs['reading']['set_aside']['folder'])
        assert b''.join(damaged.splitlines(keepends=True)[entry['line'] - 1:]).startswith(raw) and entry['reasons']
        assert len(SMALL) - len(frame) == (kind != 'the header again') and frame.text.isin(SMALL.text).all()
        assert frame.attrs['reading']['set_aside']['rows'] == 1 and (folder / TRAIN).read_bytes() == damaged


@pytest.mark.parametrize('kind', SHEETS)
def test_spreadsheets(kind, tmp_path):
    folder = data.write(SMALL, tmp_path / 'sheet', form='xlsx')
    path = folder / TRAIN.replace('.csv', '.xlsx')
    same(data.read(folder), SMALL)
    words = corrupt_sheet(path, kind)
    if SHEETS[kind][2] == 'refused':
        with pytest.raises(FormatError) as refused: data.read(folder)
        assert words in str(refused.value) and all(problem.line for problem in refused.value.problems)
        left = data.read(folder, bad_rows='set-aside')
        assert left.attrs['reading']['set_aside']['rows'] == 1 and left.text.isin(SMALL.text).all()
        return
    for _ in range(2):  # unpacked, and from the cache
        frame = data.read(folder)
        notes = notes_of(frame)
        assert any(words in note for note in notes) if words else not notes, notes
        same(frame, SMALL, 'company' if 'company' in kind else '')


def test_what_is_no_spreadsheet(tmp_path):
    folder = data.write(SMALL, tmp_path / 'sheet', form='xlsx')
    path = folder / TRAIN.replace('.csv', '.xlsx')
    whole = path.read_bytes()
    for damaged in (b'', b'id,likes\n1,2\n', whole[:3000], whole[:2000] + bytes(len(whole) - 3000) + whole[-1000:]):
        path.write_bytes(damaged)
        with pytest.raises(FormatError, match='train.xlsx'): data.read(folder)


def test_twenty_at_a_time(tmp_path):
    folder = data.write(SMALL, tmp_path / 'folder')
    corrupt(folder / TRAIN, 'all', {'all': (lambda raw, rng: re.sub(rb'(\d\d:\d\d:\d\d),\d+', rb'\1,-1', raw), '')})
    with pytest.raises(FormatError, match='48 problems') as refused: data.read(folder)
    assert len(refused.value.problems) == 20 and '28 more' in str(refused.value)


def test_any_file_may_be_missing(tmp_path):
    frame = WORLD.drop(columns=[*HIDDEN])
    for part, name in data.PARTS.items():
        folder = data.write(WORLD, tmp_path / part)
        (folder / f'behaviour_simulation_{name}.csv').unlink()
        left = data.read(folder)
        assert name in left.attrs['reading']['oddities'][0]
        same(left, frame[frame.part != part])
        assert 'likes' in data.tasks_in(folder)
    folder = data.write(SMALL, tmp_path / 'other')
    (folder / TRAIN).rename(folder / 'behaviour_train_file.csv')
    with pytest.raises(FormatError, match='behaviour_simulation_train') as refused: data.read(folder)
    assert 'behaviour_train_file.csv' in str(refused.value)


def test_the_other_task_lends_its_training_file(tmp_path):
    folder = data.write(SMALL, tmp_path / 'folder')
    posts = data.read(folder, 'post')
    same(posts, SMALL)
    assert any('other task' in note for note in posts.attrs['reading']['oddities'])


def test_files_that_disagree_are_noted(tmp_path):
    folder = data.write(SMALL, tmp_path / 'folder')
    other = SMALL.assign(likes=SMALL.likes + np.r_[1, np.zeros(len(SMALL) - 1)], text=SMALL.text.where(SMALL.index != 3, 'else'))
    data.write(other.iloc[:-2], tmp_path / 'content', 'post')
    (tmp_path / 'content' / 'content_simulation_train.csv').rename(folder / 'content_simulation_train.csv')
    likes = data.read(folder)
    same(likes, SMALL)
    notes = ' '.join(likes.attrs['reading']['oddities'])
    assert 'another likes in content_simulation_train.csv, read as here: 1 (behaviour_simulation_train.csv:2)' in notes
    assert 'another content' in notes and 'train.csv does not have: 2' in notes
    posts = data.read(folder, 'post')
    assert posts.text[3] == 'else' and 'not read: 2' in ' '.join(posts.attrs['reading']['oddities'])


def test_tests_hide_what_is_asked_for(tmp_path):
    hidden = WORLD.assign(likes=WORLD.likes.where(WORLD.part == 'train')).drop(columns=[*HIDDEN])
    folder = data.write(hidden, tmp_path / 'behaviour')
    assert b'likes' not in (folder / 'behaviour_simulation_test_time.csv').read_bytes().split(b'\n')[0]
    same(data.read(folder), hidden)
    silent = WORLD.assign(text=WORLD.text.where(WORLD.part == 'train', '')).drop(columns=[*HIDDEN])
    folder = data.write(silent, tmp_path / 'content', 'post')
    assert b'content' not in (folder / 'content_simulation_test_time.csv').read_bytes().split(b'\n')[0]
    same(data.read(folder, 'post'), silent)
    same(data.read(folder / 'content_simulation_test_time.csv', 'post'), silent[silent.part == 'time'])


@pytest.mark.parametrize('name', data.TASKS)
def test_no_folder_an_empty_one_and_one_of_another_paper(name, tmp_path):
    (tmp_path / 'empty').mkdir()
    (tmp_path / 'violence').mkdir()
    (tmp_path / 'violence' / '2013-08-01.csv').write_text('tweetid,text\n1,hello\n')
    for folder in ('nowhere', 'empty', 'violence'):
        with pytest.raises(FormatError, match=folder): data.read(tmp_path / folder, name)
        assert data.tasks_in(tmp_path / folder) == []
        with pytest.raises(FileNotFoundError): data.source_info(tmp_path / folder, name)


def test_files_that_are_not_read_are_named(tmp_path):
    folder = data.write(SMALL, tmp_path / 'folder')
    (folder / 'more.csv').write_text('a,b\n')
    (folder / f'{TRAIN}.gz').write_bytes(gzip.compress((folder / TRAIN).read_bytes()))
    (folder / '~$posts.xlsx').write_text('open')
    frame = data.read(folder)
    assert frame.attrs['reading']['not_read'] == [f'{TRAIN}.gz', 'more.csv', '~$posts.xlsx']
    assert any('more.csv' in note for note in frame.attrs['reading']['oddities'])
    same(frame, SMALL)
    (folder / TRAIN).rename(folder / TRAIN.upper())
    same(data.read(folder), SMALL)


def test_extra_columns_are_kept(tmp_path):
    frame = SMALL.assign(caption='a cat', level='3')
    folder = data.write(SMALL.assign(caption='a cat'), tmp_path / 'folder')
    path = folder / TRAIN
    lines = path.read_text().splitlines()
    path.write_text('\n'.join([lines[0] + ',level,time', *(line + ',3,now' for line in lines[1:])]) + '\n')
    again = data.read(folder)
    assert again.columns[-4:].tolist() == ['sector', 'caption', 'level (file)', 'time (file)']
    assert (again.caption == 'a cat').all() and (again['level (file)'] == '3').all()
    same(again, frame.drop(columns='level'))


def custom(folder: Path, rows: str, toml: str, name: str = 'posts.csv') -> Path:
    folder.mkdir()
    (folder / name).write_text(rows, encoding='utf-8')
    (folder / 'columns.toml').write_text(toml)
    return folder

TOML = 'text = "tweet"\nvalue = "n"\n'

def test_own_posts_by_columns_toml(tmp_path):
    toml = TOML + 'id = "no"\nuser = "who"\ncompany = "firm"\ntime = "when"\nmedia = "pic"\nlanguage = "lang"\ngroup = "file"\n'
    rows = ('no,tweet,n,who,firm,when,pic,lang,mood\n7,"hi, you","1,234",ann,a ltd,2014-03-02 14:05:09,cat.png,en,good\n'
            '8,no,2.5,bob,,,https://a.example/b.jpg,en,\n8,,0,bob,,41700.5,,,\n')
    frame, task = data.read_task(custom(tmp_path / 'own', rows, toml, 'june.csv'), 'custom')
    assert frame.likes.tolist() == [1234, 2.5, 0] and frame.account.tolist() == ['ann', 'bob', 'bob'] and task.name == 'custom'
    assert {*frame.part} == {'train'} and {*frame.group} == {'june'} and frame.language.tolist() == ['en', 'en', '']
    assert frame.picture.tolist() == ['cat.png', '', ''] and picture_url(media_of(frame.media[1])) == 'https://a.example/b.jpg'
    assert frame.time[1] is pd.NaT and frame.time[2].year == 2014 and frame.mood.tolist() == ['good', '', '']
    notes = ' '.join(frame.attrs['reading']['oddities'])
    assert 'ids that are there twice: 1' in notes and 'without a text' in notes and 'without a time' in notes


def test_own_posts_without_an_id_and_in_other_forms(tmp_path):
    table = pd.DataFrame(dict(tweet=['a', 'b', 'c'], n=[1, 2, 3]))
    folders = [custom(tmp_path / 'csv', table.to_csv(index=False), TOML), custom(tmp_path / 'tsv', table.to_csv(index=False, sep='\t'), TOML, 'a.tsv'),
               custom(tmp_path / 'jsonl', table.to_json(orient='records', lines=True), TOML, 'a.jsonl'),
               custom(tmp_path / 'semicolons', table.to_csv(index=False, sep=';'), TOML + 'separator = ";"\n')]
    for name in ('parquet', 'xlsx'): folders.append(custom(tmp_path / name, '', TOML, 'note.md'))
    table.to_parquet(folders[-2] / 'posts.parquet')
    table.to_excel(folders[-1] / 'posts.xlsx', index=False)
    for folder in folders:
        frame = data.read(folder, 'custom')
        assert frame.text.tolist() == ['a', 'b', 'c'] and frame.likes.tolist() == [1, 2, 3] and frame.id.tolist() == ['1', '2', '3']
    table.to_csv(folders[-1] / 'more.csv')
    with pytest.raises(FormatError, match='side by side'): data.read(folders[-1], 'custom')


@pytest.mark.parametrize('rows, toml, words', [
    ('tweet,n\na,-1\n', TOML, 'a number of 0 or more'), ('tweet,m\na,1\n', 'text = "tweets"\nvalue = "m"\n', 'rename "tweet"'),
    ('tweet,n\na,1,2\n', TOML, '2 fields'), ('tweet,n\n', TOML, 'at least one post'), ('tweet,n\na,1\n', 'text = "tweet"\n', 'a key value'),
    ('tweet,n\na,1\n', 'text = \n', 'TOML'), ('tweet,n\na,1\n', TOML + 'company = 3\n', 'a column name for company'),
    ('tweet,n\na,1\n', TOML + 'likes = "n"\n', 'keys out of'), ('tweet,n\na,\n', TOML, 'something in n'),
    ('tweet,n\na,1\ntweet,n\nb,2\n', TOML, 'the header again'), ('tweet,n,w\na,1,noon\n', TOML + 'time = "w"\n', '"noon"'),
])
def test_own_posts_that_cannot_be_used(rows, toml, words, tmp_path):
    with pytest.raises(FormatError) as refused: data.read(custom(tmp_path / 'own', rows, toml), 'custom')
    assert words in str(refused.value), str(refused.value)


def test_keys_of_other_papers_are_passed_over(tmp_path):
    folder = custom(tmp_path / 'own', 'tweet,n,l\na,1,x\n', TOML + 'label = "l"\nlon = "x"\n')
    assert data.read(folder, 'custom').likes.tolist() == [1]


ugly = st.text(st.characters(exclude_categories=('Cs',), exclude_characters='\x00'), max_size=40) | st.sampled_from(
    ['', ' ', '\n', '"', '=1+1', '\r\n', 'a\rb', 'مرحبا\nبكم', '👮🏽‍♀️, "x"', '\ufeff', "it's", '\\', '\u2028', '<hyperlink> <mention>', '-4', '1.0'])
word = ugly.filter(lambda text: text.strip() != '')

@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(texts=st.lists(ugly, min_size=6, max_size=6), names=st.lists(word, min_size=6, max_size=6), task=st.sampled_from(list(data.TASKS)),
       likes=st.lists(st.integers(0, 10**9), min_size=6, max_size=6), seconds=st.lists(st.integers(10**9, 4 * 10**9), min_size=6, max_size=6))
def test_what_is_written_reads_back(texts, names, task, likes, seconds, tmp_path_factory):
    when = pd.Series(pd.to_datetime(seconds, unit='s', utc=True)).astype('datetime64[us, UTC]')
    frame = SMALL.iloc[:6].assign(text=pd.Series(texts, dtype='str'), account=pd.Series(names, dtype='str'), likes=np.array(likes, float),
                                  time=when, sector=pd.Series(texts[::-1], dtype='str'))
    folder = data.write(frame, tmp_path_factory.mktemp('folder') / 'files', task)
    same(data.read(folder, task), frame)


plain = st.text(st.characters(min_codepoint=32, exclude_categories=('Cs', 'Cc')), max_size=30) | st.sampled_from(['=1+1', '007', '', ' x ', '\n'])

@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(texts=st.lists(plain, min_size=4, max_size=4))
def test_spreadsheets_read_back(texts, tmp_path_factory):
    frame = SMALL.iloc[:4].assign(text=pd.Series(texts, dtype='str'))
    folder = data.write(frame, tmp_path_factory.mktemp('folder') / 'files', form='xlsx')
    same(data.read(folder), frame)


address = st.text(st.characters(exclude_categories=('Cs',)), max_size=20)

@settings(max_examples=200, deadline=None)
@given(st.lists(st.builds(Medium, st.sampled_from(['photo', 'video', 'gif']), address, address), max_size=4))
def test_media_read_back(media): assert media_of(as_text(media)) == tuple(media)

@settings(max_examples=200, deadline=None)
@given(st.text(max_size=60) | st.text("[]()'Photo,=Url \\{}", max_size=40))
def test_media_are_a_list_or_refused(text):
    try: media = media_of(text)
    except ValueError as reason: assert 'expected a list such as' in str(reason)
    else: assert all(isinstance(one, Medium) for one in media)


def test_what_would_not_read_back_is_not_written(tmp_path):
    half = SMALL.time + pd.Timedelta('500ms')
    for change in (dict(id='1'), dict(likes=-1.), dict(likes=.5), dict(likes=np.nan), dict(part='dev'), dict(time=half), dict(text='a\0'),
                   dict(account=''), dict(media='exit()'), dict(id='')):
        with pytest.raises(FormatError): data.write(SMALL.assign(**change), tmp_path / 'a')
    with pytest.raises(FormatError, match='train, company, time'): data.write(WORLD.iloc[::-1], tmp_path / 'b')
    with pytest.raises(FormatError, match='columns'): data.write(SMALL.drop(columns='media'), tmp_path / 'c')
    with pytest.raises(FormatError, match='spreadsheet can hold'): data.write(SMALL.assign(text='\x01'), tmp_path / 'd', form='xlsx')
    folder = data.write(SMALL, tmp_path / 'e')
    with pytest.raises(FormatError, match='without files'): data.write(SMALL, folder)


@pytest.mark.parametrize('name', data.TASKS)
def test_the_same_seed_gives_the_same_posts(name):
    frame = data.simulate(name, seed=5, rows=140)
    assert len(frame) == 140 and frame.equals(data.simulate(name, seed=5, rows=140))
    assert not frame.text.equals(data.simulate(name, seed=6, rows=140).text)
    assert len(data.describe(frame, name)) > 20 and 'likes' in data.facts(frame) and '140 posts' in data.counted(frame)


def gain(frame: pd.DataFrame, by) -> float:
    "Share of the variance of log(1 + likes) inside accounts that groups explain, groups of one post left out."
    y = np.log1p(frame.likes) - np.log1p(frame.likes).groupby(frame.account).transform('mean')
    groups = y.groupby(np.asarray(by))
    held_out = (groups.transform('sum') - y) / (groups.transform('size') - 1)
    fine = held_out.notna()
    return float(1 - ((y - held_out)[fine] ** 2).mean() / (y[fine] ** 2).mean())


@pytest.mark.parametrize('effect', ['content', 'picture', 'time'])
def test_effects_inside_accounts_can_be_removed(effect):
    found, claimed = [], []
    for seed in range(10):
        for strength, scores in ((1., found), (0., claimed)):
            frame = posts_world(30, 1200, seed=seed, **{effect: strength})
            by = dict(content=frame.topic, picture=frame.kind, time=frame.time.dt.hour // 3)[effect]
            scores.append(gain(frame, by) > .005)
    assert sum(found) >= 9 and sum(claimed) <= 1, (sum(found), sum(claimed))


def test_levels_can_be_removed():
    def between(frame, by): return np.log1p(frame.likes).groupby(frame[by]).transform('mean').std()
    full, flat = [posts_world(40, 4000, seed=2, company=company) for company in (1., 0.)]
    assert between(full, 'company') > 1.3 * between(flat, 'company')
    none = posts_world(40, 4000, seed=2, account=0., company=0.)
    assert between(none, 'account') < .5 * between(full, 'account') and not none.level.any()
    assert {*WEIGHTS} == {'account', 'company', 'time', 'content', 'picture'}


def test_zeros_and_habits_can_be_removed():
    assert posts_world(20, 1000, zeros=0.).likes.min() == 1 and (posts_world(20, 1000, zeros=2.).likes == 0).mean() > .2
    shares = {strength: pd.crosstab(frame.account, frame.topic, normalize='index').max(axis=1).mean()
              for strength in (1., 0.) for frame in [posts_world(20, 4000, habit=strength)]}
    assert shares[1.] > shares[0.] + .1


def test_a_large_world_has_the_published_tail():
    frame = data.simulate(rows=60_000)
    table = data.describe(frame, 'likes')
    for name, factor in (('likes, mean', 1.4), ('likes, standard deviation', 1.6), ('likes, median', 1.5), ('likes, upper quartile', 1.3)):
        here, published = table.loc[name]
        assert 1 / factor < here / published < factor, (name, here)
    assert abs(table.here['posts without a like, share (inferred)'] - .13) < .03


def test_pictures_are_the_same_bytes_and_found_by_their_address(tmp_path):
    one, two = [draw_pictures(WORLD, tmp_path / name, seed=3) for name in 'ab']
    files = sorted(path.name for path in (tmp_path / 'a').iterdir())
    assert files == sorted(name for name in one.picture if name) and one.picture.equals(two.picture)
    assert all((tmp_path / 'a' / name).read_bytes() == (tmp_path / 'b' / name).read_bytes() for name in files)
    folder = data.write(WORLD, tmp_path / 'files')
    frame, _ = data.load('picture', folder, pictures=str(tmp_path / 'a'))
    assert frame.picture.equals(one.picture) and frame.attrs['pictures'] == str(tmp_path / 'a')
    bare, _ = data.load('picture', folder, pictures='none')
    assert not bare.picture.any() and bare.attrs['pictures'] == ''


def test_wrong_effects_and_sizes():
    with pytest.raises(ValueError, match='content'): posts_world(12, 10, content=-1)
    with pytest.raises(LookupError, match='content'): posts_world(12, 10, contents=1)
    with pytest.raises(ValueError, match='accounts'): posts_world(2, 10)
    assert len(posts_world(4, 1)) == 1 and len(data.simulate(rows=5)) == 5


@pytest.mark.skipif(not REAL.is_dir(), reason='no real posts at hand')
def test_real_posts():
    frame, _ = data.load('likes', REAL)
    assert len(frame) == 6439 and frame.account.nunique() == 2 and frame.likes.notna().all() and frame.id.is_unique
    assert not notes_of(frame) and data.source_info(REAL, 'likes')['kind'] == 'real'
