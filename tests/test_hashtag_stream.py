"""Preparation of a stream: counts that add up, all kinds of files, damage, resuming, and what is left."""
import bz2, gzip, io, json, os, signal, subprocess, sys, tarfile, time, warnings
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from socialprof.core.formats import FormatError
from socialprof.core.reading import read_aside
from socialprof.hashtag import archive, sieve, stream
from socialprof.hashtag.sieve import Preparation
from socialprof.hashtag.stream import prepare, read_steps
from socialprof.hashtag.stream_speed import write_stream
from socialprof.hashtag.tags import tags_of

SMALL = Preparation(languages=(), least=3)


def lines(n=40, tag='soup', start=0): return [f'the pot number {k} is warm and good #{tag} #all' for k in range(start, start + n)]

def record(text, **more): return json.dumps(dict(text=text, lang='en') | more)

def run(source, target, settings=SMALL, workers=1, **options): return prepare(source, target, settings, workers=workers, quiet=True, **options)

def posts_in(folder): return pd.concat([pd.read_parquet(path) for path in sorted(Path(folder).glob('posts-*.parquet'))], ignore_index=True)

def beside(folder): return folder.with_name(f'{folder.name}-out')

def files_in(folder): return {path.name: path.read_bytes() for path in Path(folder).iterdir() if path.is_file()}

def adds_up(steps, posts):
    assert steps.left.iloc[0] - steps.out.sum() == steps.left.iloc[-1] == posts
    assert (steps.left.diff().iloc[1:] == -steps.out.iloc[1:]).all() and (steps.out >= 0).all()


@pytest.fixture(scope='module')
def source(tmp_path_factory):
    "A stream with retweets, doubles, notices, two languages, rare tags, in two forms."
    folder = tmp_path_factory.mktemp('source')
    rng = np.random.default_rng(0)
    words = ['kitchen', 'garden', 'window', 'morning', 'people', 'market', 'school', 'summer', 'letter', 'number']
    def english(tags): return f'we are at the {" ".join(rng.choice(words, 6))} and it is good {tags}'
    def german(tags): return f'wir sind heute in der Stadt und essen {" ".join(rng.choice(["Brot", "Suppe", "Kuchen", "Fisch"], 5))} {tags}'
    tags = [f'#Tag{n}' for n in np.minimum(rng.zipf(1.4, 900), 40)]
    texts = [english(tag) for tag in tags[:500]] + [german(tag) for tag in tags[500:600]] + [english(f'{a} {b}') for a,
            b in zip(tags[600:750], tags[750:], strict=False)]
    texts += [f'RT @ana: {text}' for text in texts[:30]] + texts[:20] + [f'{text} https://t.co/x{n}' for n, text in enumerate(texts[20:35])]
    texts += [english('') for _ in range(40)] + [german('') for _ in range(15)]
    rng.shuffle(texts)
    half = len(texts) // 2
    (folder / 'a.txt').write_text('\n'.join([*texts[:half], '', '']) + '\n')
    rest = [record(text, created_at='Wed Aug 27 13:08:45 +0000 2014', user=dict(screen_name='ana')) for text in texts[half:]]
    (folder / 'b.jsonl').write_text('\n'.join([*rest, '{"delete": {"status": {"id": 1}}}', '{"limit": {"track": 3}}',
            record('x #Tag1', retweeted_status={'id': 1})]) + '\n')
    return folder


def test_counts_add_up(source, tmp_path):
    steps = run(source, tmp_path, Preparation(least=10, cap=20))
    posts = posts_in(tmp_path)
    adds_up(steps, len(posts))
    out = dict(zip(steps.step, steps.out, strict=False))
    assert out['retweets'] == 31 and out['blank lines'] == 2 and out['deleted posts'] == 1 and out['notices'] == 1
    assert out['language'] > 90 and out['doubles'] >= 30 and out['without a tag'] == 55 and out['tags under 10 posts'] > 0
    kinds = steps.attrs['languages']
    assert kinds['en'] > 5 * kinds['de'] > 100 and set(posts.language) == {'en'}
    assert read_steps(tmp_path).equals(steps) and steps.attrs['tags'] > steps.attrs['tags_left'] > 1


def test_steps_are_printed(source, tmp_path, capsys):
    steps = prepare(source, tmp_path, SMALL, workers=1)
    printed = capsys.readouterr().out.splitlines()
    assert [line.split()[-4:] for line in printed] == [[f'{row.out:,}', 'out', f'{row.left:,}', 'left'] for row in steps.itertuples()]


def test_both_orders_leave_the_same_posts(source, tmp_path):
    settings = Preparation(least=5)
    first = run(source, tmp_path / 'a', settings)
    second = run(source, tmp_path / 'b', replace(settings, tags_first=False))
    names = [name for name in files_in(tmp_path / 'a') if name != 'steps.json']
    assert all(files_in(tmp_path / 'a')[name] == files_in(tmp_path / 'b')[name] for name in names) and len(names) == 2
    first = first.set_index('step')
    second = second.set_index('step')
    both = ['without a tag', 'language']
    assert first.out[both].sum() == second.out[both].sum() and first.out['language'] < second.out['language']


def test_every_post_has_a_tag_and_every_tag_its_posts(source, tmp_path):
    run(source, tmp_path, Preparation(languages=(), least=15))
    posts = posts_in(tmp_path)
    assert (posts.tags.str.len() > 0).all()
    assert all(set(tags) <= set(tags_of(text)) for text, tags in zip(posts.text, posts.tags, strict=False))
    counts = posts.tags.explode().value_counts()
    table = pd.read_csv(tmp_path / 'tags.csv', index_col='tag')
    assert counts.min() >= 15 and counts.to_dict() == table.posts.to_dict() == table.posts_before.to_dict()
    # the tags left out are those under the limit, on the same posts before that step
    run(source, tmp_path / 'all', Preparation(languages=(), least=1))
    before = posts_in(tmp_path / 'all').tags.explode().value_counts()
    assert set(before.index[before >= 15]) == set(counts.index) and len(before) > len(counts)


def test_posts_are_grouped_by_tag(source, tmp_path):
    run(source, tmp_path, Preparation(languages=(), least=5))
    posts = posts_in(tmp_path)
    counts = posts.tags.explode().value_counts()
    rarest = [min(tags, key=lambda tag: counts[tag]) for tags in posts.tags]
    changes = sum(a != b for a, b in zip(rarest, rarest[1:], strict=False))
    assert changes < len(counts) + 20


def test_cap(source, tmp_path):
    settings = Preparation(languages=(), least=5, cap=12, seed=3)
    steps = run(source, tmp_path / 'a', settings)
    posts = posts_in(tmp_path / 'a')
    table = pd.read_csv(tmp_path / 'a' / 'tags.csv', index_col='tag')
    counts = posts.tags.explode().value_counts()
    assert counts.to_dict() == table.posts.to_dict() and (table.posts >= table.posts_before.clip(upper=12)).all()
    alone = posts.tags[posts.tags.str.len() == 1].str[0].value_counts()
    assert alone.max() <= 12 < table.posts_before.max()
    assert (steps.step == 'more than 12 posts a tag').sum() == 1
    # another seed draws other posts, the same seed the same
    run(source, tmp_path / 'b', settings)
    run(source, tmp_path / 'c', replace(settings, seed=4))
    assert files_in(tmp_path / 'a') == files_in(tmp_path / 'b') and set(posts_in(tmp_path / 'c').text) != set(posts.text)


@pytest.mark.parametrize('settings', [Preparation(least=10), Preparation(least=5, cap=12), Preparation(least=5,
        normaliser='bertweet')], ids=['plain', 'cap', 'bertweet'])
def test_reads_what_it_wrote(source, tmp_path, settings):
    run(source, tmp_path / 'a', settings)
    steps = run(tmp_path / 'a', tmp_path / 'b', settings)
    assert steps.out.sum() == 0 and steps.left.iloc[0] == steps.left.iloc[-1]
    first, second = (posts_in(tmp_path / name).sort_values('text', ignore_index=True) for name in 'ab')
    assert first.map(str).equals(second.map(str))


def test_workers_change_nothing(source, tmp_path, monkeypatch):
    run(source, tmp_path / 'a', workers=1)
    run(source, tmp_path / 'b', workers=2)
    monkeypatch.setattr(archive.pieces_of, '__defaults__', (3_000,))
    pieces = [piece for path in archive.files_of(source) for piece in archive.pieces_of(path)]
    run(source, tmp_path / 'c', workers=1)
    files = [files_in(tmp_path / name) for name in 'abc']
    for each in files: assert each.pop('steps.json')
    assert files[0] == files[1] == files[2] and len(pieces) > 10


def test_resumes_after_a_killed_process(tmp_path):
    "Killed between two parts: the parts stay, the second run reads only the rest, and its files are equal to the last byte."
    source = tmp_path / 'source'
    source.mkdir()
    for n in range(6): write_stream(source, 4_000, seed=n).rename(source / f'{n}.txt')
    whole = run(source, tmp_path / 'whole')
    code = ('import sys, time\nfrom socialprof.hashtag import stream\nfrom socialprof.hashtag.sieve import Preparation\n'
            'write = stream.write_part\nstream.write_part = lambda *a: (time.sleep(.4), write(*a))[1]\n'
            f'stream.prepare({str(source)!r}, {str(tmp_path / "cut")!r}, Preparation(languages=(), least=3), workers=1)\n')
    process = subprocess.Popen([sys.executable, '-c', code], stdout=subprocess.DEVNULL)
    parts = tmp_path / 'cut' / 'parts'
    end = time.time() + 60
    while time.time() < end and len(list(parts.glob('*.json'))) < 2: time.sleep(.02)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    finished = {path: path.stat().st_mtime_ns for path in parts.glob('*.json')}
    assert 2 <= len(finished) < 6 and not list((tmp_path / 'cut').glob('posts-*'))
    calls = []
    original = stream.write_part
    try:
        stream.write_part = lambda piece, *rest: calls.append(piece) or original(piece, *rest)
        steps = run(source, tmp_path / 'cut')
    finally: stream.write_part = original
    assert len(calls) == 6 - len(finished) and steps.equals(whole)
    assert files_in(tmp_path / 'cut') == files_in(tmp_path / 'whole') and not parts.exists()


def test_a_changed_file_is_read_again(tmp_path):
    path = tmp_path / 'a.txt'
    path.write_text('\n'.join(lines(10)))
    assert run(path, tmp_path / 'out').left.iloc[-1] == 10
    path.write_text('\n'.join(lines(30)))
    assert run(path, tmp_path / 'out').left.iloc[-1] == 30
    assert run(path, tmp_path / 'out', Preparation(languages=(), least=3, cap=5)).left.iloc[-1] == 5
    assert len(posts_in(tmp_path / 'out')) == 5
    before = (tmp_path / 'out' / 'steps.json').stat().st_mtime_ns
    run(path, tmp_path / 'out', Preparation(languages=(), least=3, cap=5))
    assert (tmp_path / 'out' / 'steps.json').stat().st_mtime_ns == before
    run(path, tmp_path / 'out', Preparation(languages=(), least=3, cap=5), resume=False)
    assert (tmp_path / 'out' / 'steps.json').stat().st_mtime_ns > before


def packed_tar(path, members, mode):
    with tarfile.open(path, mode) as tar:
        for name, data in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))

TEXT = '\n'.join(lines()).encode()
RECORDS = '\n'.join(map(record, lines())).encode()
ARRAY = json.dumps([json.loads(line) for line in RECORDS.decode().splitlines()], indent=1).encode()

def test_every_form_of_a_file(tmp_path):
    data = {'a.txt': TEXT, 'a.jsonl': RECORDS, 'a.json': ARRAY}
    for name, raw in data.items():
        (tmp_path / name).write_bytes(raw)
        (tmp_path / f'{name}.gz').write_bytes(gzip.compress(raw))
        (tmp_path / f'{name}.bz2').write_bytes(bz2.compress(raw[:500]) + bz2.compress(raw[500:]))
    for kind, mode in (('tar', 'w'), ('tar.gz', 'w:gz'), ('tgz', 'w:gz'), ('tar.bz2', 'w:bz2')):
        packed_tar(tmp_path / f'b.{kind}', {'2014/a.txt': TEXT[:900], '2014/b.json.bz2': bz2.compress(RECORDS), '._a.txt': b'\x00'}, mode)
    paths = sorted(path for path in tmp_path.iterdir())
    assert len(paths) == 13
    texts = set(lines())
    for path in paths:
        out = tmp_path.with_name(f'{tmp_path.name}-{path.name}')
        adds_up(run(path, out), 40)
        posts = posts_in(out)
        assert set(posts.text) == texts, path.name
    everything = run(tmp_path, tmp_path.with_name(f'{tmp_path.name}-all'))
    assert everything.left.iloc[-1] == 40


def test_records(tmp_path):
    cases = [
        record('cut #so…', extended_tweet=dict(full_text='the whole of it #soup #day')),
        record('cut…', full_text='another whole one #soup', created_at='Wed Aug 27 13:08:45 +0000 2014', user=dict(id_str='7')),
        record('it was cut here…', entities=dict(hashtags=[dict(text='Soup'), dict(text='niño')]), user=dict(screen_name='ana', id_str='9')),
        record('a third of them #soup', created_at='2020-01-02T03:04:05Z'),
        record('said by another #soup', retweeted_status=dict(text='x')),
        record('RT @ana: said by another #soup'), '{"delete": {"status": {"id": 3}}}', '{"scrub_geo": {}}', '']
    (tmp_path / 'a.json').write_text('\n'.join(cases) + '\n')
    steps = run(tmp_path, beside(tmp_path))
    posts = posts_in(beside(tmp_path)).set_index('text')
    out = dict(zip(steps.step, steps.out, strict=False))
    assert (out['retweets'], out['deleted posts'], out['notices'], out['blank lines']) == (2, 1, 1, 1)
    assert set(posts.index) == {'the whole of it #soup #day', 'another whole one #soup', 'it was cut here…', 'a third of them #soup'}
    assert posts.tags.map(list).to_list() == [['soup']] * 4 and posts.user['another whole one #soup'] == '7' and posts.user['it was cut here…'] == 'ana'
    assert posts.time['another whole one #soup'] == pd.Timestamp('2014-08-27 13:08:45', tz='UTC') and posts.time.isna().sum() == 2
    assert posts.time['a third of them #soup'] == pd.Timestamp('2020-01-02 03:04:05', tz='UTC')


def test_language_that_a_record_names(tmp_path):
    source = tmp_path / 'in'
    source.mkdir()
    (source / 'a.jsonl').write_text('\n'.join(record(line, lang='fr') for line in lines()) + '\n' + '\n'.join(record(line,
            lang='und') for line in lines(9, start=50)))
    french = Preparation(languages=('fr',), trust_language=True, least=3)
    assert run(source, tmp_path / 'fr', french).left.iloc[-1] == 40
    assert set(posts_in(tmp_path / 'fr').language) == {'fr'}
    assert run(source, tmp_path / 'en', Preparation(least=3, trust_language=True)).left.iloc[-1] == 9
    with pytest.raises(ValueError, match="nothing is left after the step 'language'"): run(source, tmp_path / 'no', replace(french, trust_language=False))


BROKEN = {
    'not json': b'{"text": "hot #soup"\n', 'a number': b'7\n', 'no text': b'{"name": "ana"}\n',
            'text is a number': b'{"text": 7}\n', 'null': b'{"text": null}\n',
    'not utf-8': b'{"text": "caf\xe9 #soup"}\n', 'half a pair': b'{"text": "hot \\ud83c #soup"}\n', 'nested': b'{"text": ' +
            b'[' * 100_000 + b'\n', 'a list': b'["hot #soup"]\n'}

@pytest.mark.parametrize('kind', BROKEN)
def test_broken_lines(tmp_path, kind):
    raw = RECORDS + b'\n'
    place = raw.index(b'\n') + 1
    (tmp_path / 'in').mkdir()
    (tmp_path / 'in' / 'a.jsonl').write_bytes(raw[:place] + BROKEN[kind] + raw[place:])
    (tmp_path / 'in' / 'b.jsonl').write_bytes(raw)
    with pytest.raises(FormatError) as error: run(tmp_path / 'in', tmp_path / 'out')
    problem = error.value.problems[0]
    assert error.value.total == 1 and problem.line == 2 and problem.file.endswith('a.jsonl') and problem.remedy
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter('always')
        steps = run(tmp_path / 'in', tmp_path / 'out', replace(SMALL, bad_rows='set-aside'))
    assert any('set aside' in str(each.message) for each in caught)
    adds_up(steps, 40)
    assert dict(zip(steps.step, steps.out, strict=False))['broken lines'] == 1
    (entry, aside), = read_aside(tmp_path / 'out' / 'set-aside')
    assert aside == BROKEN[kind] and entry['line'] == 2 and entry['file'].endswith('a.jsonl')
    assert steps.attrs['reading']['set_aside']['rows'] == 1


def test_lines_are_named_in_later_ranges_and_in_tars(tmp_path, monkeypatch):
    good = '\n'.join(lines(200)).encode() + b'\n'
    (tmp_path / 'a.txt').write_bytes(good + b'caf\xe9 #soup\n' + good)
    monkeypatch.setattr(archive.pieces_of, '__defaults__', (2_000,))
    with pytest.raises(FormatError) as error: run(tmp_path / 'a.txt', tmp_path / 'out')
    assert error.value.problems[0].line == 201 and 'iconv' in str(error.value)
    packed_tar(tmp_path / 'b.tar', {'one.txt': good, 'two/three.txt.gz': gzip.compress(good + b'\xff\n')}, 'w')
    with pytest.raises(FormatError) as error: run(tmp_path / 'b.tar', tmp_path / 'out')
    assert error.value.problems[0].line == 201 and error.value.problems[0].file.endswith('b.tar/two/three.txt.gz')


def cut_files():
    data = TEXT * 2000
    tar = io.BytesIO()
    with tarfile.open(fileobj=tar, mode='w') as file:
        member = tarfile.TarInfo('a.txt')
        member.size = len(data)
        file.addfile(member, io.BytesIO(data))
    return {'a.txt.gz': gzip.compress(data)[:-900], 'a.txt.bz2': bz2.compress(data)[:-900],
            'a.tar': tar.getvalue()[:100_000], 'a.tar.gz': gzip.compress(tar.getvalue())[:-900],
            'flip.txt.gz': gzip.compress(data)[:3000] + b'damage' * 9 + gzip.compress(data)[3054:]}

@pytest.mark.parametrize('name', cut_files())
@pytest.mark.parametrize('bad_rows', ['refuse', 'set-aside'])
def test_cut_files_are_named(tmp_path, name, bad_rows):
    (tmp_path / name).write_bytes(cut_files()[name])
    with pytest.raises(FormatError) as error: run(tmp_path / name, tmp_path / 'out', replace(SMALL, bad_rows=bad_rows))
    assert error.value.problems[0].file.endswith(name) and 'copy it again' in str(error.value)


@pytest.mark.parametrize('name, data, words', [
    ('a.json', ARRAY[:-40], 'a whole JSON array'), ('a.json', ARRAY.replace(b'},', b'}},', 3), 'a whole JSON array'),
            ('a.txt', 'hot #soup'.encode('utf-16'), 'UTF-16'),
    ('a.txt', b'PK\x03\x04 a zip', 'zip'), ('a.jsonl', json.dumps(json.loads(RECORDS.splitlines()[0]), indent=1).encode(), 'one JSON object a line')])
def test_unreadable_files_are_named(tmp_path, name, data, words):
    (tmp_path / name).write_bytes(data)
    with pytest.raises(FormatError) as error: run(tmp_path, beside(tmp_path))
    assert words in str(error.value) and name in str(error.value)


def test_wrong_sources(tmp_path, source):
    with pytest.raises(FormatError, match='an empty folder'): run(tmp_path, beside(tmp_path))
    with pytest.raises(FormatError, match='nothing of that name'): run(tmp_path / 'no', beside(tmp_path))
    (tmp_path / 'photo.png').touch()
    with pytest.raises(FormatError, match='only photo.png'): run(tmp_path, beside(tmp_path))
    for inside in (source, source / 'out'):
        with pytest.raises(ValueError, match='outside'): run(source, inside)
    (tmp_path / 'empty.txt').touch()
    with pytest.raises(ValueError, match='nothing is left'): run(tmp_path, beside(tmp_path))


@pytest.mark.parametrize('text, step', [('RT @ana: hot #soup', 'retweets'), ('hot soup', 'without a tag'), ('hot #soup',
        'tags under 3 posts'), ('\n', 'blank lines')])
def test_the_step_that_leaves_nothing_is_named(tmp_path, text, step):
    (tmp_path / 'a.txt').write_text(f'{text}\n')
    with pytest.raises(ValueError, match=f'after the step {step!r}'): run(tmp_path, beside(tmp_path))
    assert not list((beside(tmp_path)).glob('posts-*')) and not (beside(tmp_path) / 'steps.json').exists()


def test_doubles_and_near_duplicates(tmp_path):
    base = [f'{text} #soup' for text in ('the kitchen is warm and the soup is ready for all of us tonight',
            'nobody saw the train that left the town at noon on monday',
                                         'there will be rain in the north and snow on the hills by the weekend')]
    exact = [f'@leo {base[0]} https://t.co/aB1', base[1].upper().replace('#SOUP', '#soup'), f'  {base[2]}']
    near = [base[0].replace('tonight', 'tonight!!'), base[1].replace('noon on', 'noon, on'), base[2].replace('by the', 'by this')]
    (tmp_path / 'a.txt').write_text('\n'.join([*base, *exact, *near]) + '\n')
    out = dict(run(tmp_path / 'a.txt', tmp_path / 'a').set_index('step').out)
    assert out['doubles'] == 3 and len(posts_in(tmp_path / 'a')) == 6
    steps = run(tmp_path / 'a.txt', tmp_path / 'b', replace(SMALL, near=.7)).set_index('step').out
    assert steps['near-duplicates'] == 3 and sorted(posts_in(tmp_path / 'b').text) == sorted(base)


def test_near_duplicates_of_simulated_posts_follow_jaccard(tmp_path):
    "Planted changes of one word in twelve are found, posts that share only their form are not."
    rng = np.random.default_rng(1)
    words = [''.join(parts) for parts in rng.choice([a + b for a in 'bdfgklmnprst' for b in 'aeiou'], (3000, 3))]
    texts = [' '.join(rng.choice(words, 14)) + ' #soup' for _ in range(600)]
    changed = [text.replace(text.split()[6], 'another', 1) for text in texts[:300]]
    (tmp_path / 'a.txt').write_text('\n'.join([*texts, *changed]) + '\n')
    out = run(tmp_path, beside(tmp_path), replace(SMALL, near=.7)).set_index('step').out['near-duplicates']
    assert 270 <= out <= 300 and set(posts_in(beside(tmp_path)).text) >= set(texts)


def test_buckets_and_limits_do_not_depend_on_their_size(source, tmp_path, monkeypatch):
    "With files of 50 pairs, and of 30 posts, the same posts are left in the same order."
    settings = Preparation(languages=(), least=5, cap=12, near=.8)
    run(source, tmp_path / 'a', settings)
    monkeypatch.setattr(stream.Buckets.__init__, '__defaults__', (50,))
    monkeypatch.setattr(stream, 'FILE_POSTS', 30)
    run(source, tmp_path / 'b', settings)
    assert len(list((tmp_path / 'b').glob('posts-*'))) > 2
    assert posts_in(tmp_path / 'a').map(str).equals(posts_in(tmp_path / 'b').map(str))


def test_normaliser(source, tmp_path):
    (tmp_path / 'a.txt').write_text('\n'.join(f'@ana {line}! https://t.co/{n} 😂' for n, line in enumerate(lines())))
    run(tmp_path, beside(tmp_path), replace(SMALL, normaliser='bertweet'))
    posts = posts_in(beside(tmp_path))
    assert len(posts) == 40
    assert posts.text.str.match(r'@USER .* #all ! HTTPURL :face_with_tears_of_joy:$').all()
    assert posts.tags.map(list).to_list() == [['soup', 'all']] * 40


def test_case_of_tags(tmp_path):
    (tmp_path / 'a.txt').write_text('\n'.join(f'pot number {n} is {"hot" if tag == "Soup" else "cold"} #{tag}' for n in range(5) for tag in ('Soup', 'soup')))
    run(tmp_path / 'a.txt', tmp_path / 'folded')
    run(tmp_path / 'a.txt', tmp_path / 'as-is', replace(SMALL, fold=False))
    assert set(posts_in(tmp_path / 'folded').tags.str[0]) == {'soup'} and set(posts_in(tmp_path / 'as-is').tags.str[0]) == {'Soup', 'soup'}


def test_two_posts_are_taken_apart_by_their_keys(monkeypatch):
    texts = [f'{a} {b}' for a, b in product(range(200), repeat=2)]
    assert len({sieve.key_of(text) for text in texts}) == len(texts)


REAL = Path(os.environ.get('SOCIALPROF_HASHTAGS', '')) / 'tweets_0.tsv'

@pytest.mark.skipif(not REAL.is_file(), reason='no real posts: set SOCIALPROF_HASHTAGS to a folder with tweets_*.tsv')
def test_real_posts(tmp_path):
    for path in sorted(REAL.parent.glob('tweets_*.tsv')):
        (tmp_path / path.with_suffix('.txt').name).write_bytes(b'\n'.join(line.partition(b'\t')[2] for line in path.read_bytes().split(b'\n')))
    steps = run(tmp_path, beside(tmp_path), Preparation(least=20))
    adds_up(steps, len(posts_in(beside(tmp_path))))
    assert (posts_in(beside(tmp_path)).tags.str.len() > 0).all()
