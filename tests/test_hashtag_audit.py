"""The audit of benchmarks finds what was planted, exactly, and the irony leak of the real files where they are at hand."""
import json
import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import f1_score

from socialprof.hashtag import audit
from socialprof.hashtag.world import BENCHES, posts_world, task_world
from socialprof.lab.protocol import Task

ROOT = Path(__file__).resolve().parents[1]
REAL = Path(os.environ.get('SOCIALPROF_SHARED_DATA') or ROOT.parent / 'shared' / 'data') / 'hicl_tasks'
HATE = dict(train=8993, dev=999, test=2970)
WORDS = np.array([f'{first}{last}' for first in 'ba de fi go lu ma ne pi ro su'.split() for last in 'ran nel kos tim dra'.split()])


def task_of(name): return Task(name, BENCHES[name].labels)

def plain(name, seed=0, **sizes):
    "Posts of random words, of which no two share a run of three by more than luck."
    rng = np.random.default_rng(seed)
    split = np.repeat(list(sizes), list(sizes.values()))
    texts = [' '.join([*rng.choice(WORDS, 12), f'w{number}']) for number in range(len(split))]
    return pd.DataFrame(dict(text=texts, label=rng.choice(BENCHES[name].labels, len(split)), split=split))

def with_doubles(frame, exact, opposite, near, seed=0):
    "Test posts become posts of train and dev: so many exactly, of them so many with the other label, and others nearly."
    rng = np.random.default_rng(seed)
    rows = rng.choice(np.flatnonzero(frame.split == 'test'), exact + near, replace=False)
    sources = rng.choice(np.flatnonzero(frame.split != 'test'), exact + near, replace=False)
    frame = frame.copy()
    names = sorted(set(frame.label))
    for place, (row, source) in enumerate(zip(rows, sources, strict=True)):
        text = frame.text[source].upper() if place < exact else frame.text[source] + ' surely'
        label = names[frame.label[source] == names[0]] if place < opposite else frame.label[source]
        frame.loc[row, ['text', 'label']] = [f'@someone  {text} https://t.co/{place}', label]
        # what it repeats was written to someone else, too
        frame.loc[source, 'text'] = f'@other {frame.text[source]} https://t.co/x{place}'
    return frame, rows, sources


@pytest.fixture(scope='module')
def hate():
    frame, rows, sources = with_doubles(plain('hate', **HATE), exact=266, opposite=114, near=37)
    return frame, rows, sources, audit.audited(frame, task_of('hate'))

def test_doubles_are_found_exactly(hate):
    "266 of 2,970 exact, 114 of them with the opposite label, 303 with the near ones: these posts and no others."
    frame, rows, sources, result = hate
    table = result.doubles
    assert (table.kind == 'exact').sum() == 266 and len(table) == 303 and (table.split == 'test').all()
    assert table.other_label[table.kind == 'exact'].sum() == 114 and not table.other_label[table.kind == 'near'].any()
    assert dict(zip(table.row, table.other, strict=True)) == dict(zip(rows.tolist(), sources.tolist(), strict=True))
    words = audit.findings(result).set_index('what')['in words']['doubles']
    assert words == '266 of 2970 test posts are also in train or dev, 114 of them there with another label; near doubles counted, 303 are.'

def test_contradictions_are_found_exactly(hate):
    frame, rows, sources, result = hate
    table = result.contradictions
    assert table.group.nunique() == 114 and set(table.row) == {*rows[:114], *sources[:114]}
    assert (table.groupby('group').label.nunique() == 2).all()

def test_cleaning_counts_what_goes(hate):
    frame, rows, sources, result = hate
    clean = audit.cleaned(frame, result)
    steps = audit.cleaning_counts(frame, result)
    assert steps.loc['− double', 'test'] == -303 and steps.loc['− contradiction'].sum() == -114
    assert clean.split.value_counts().to_dict() == steps.loc['= cleaned'].to_dict()
    assert len(clean) == len(frame) - 303 - 114 and list(clean) == list(frame)
    after = audit.audited(clean, task_of('hate'))
    assert not len(after.doubles) and not len(after.contradictions)

def test_contradictions_within_a_part():
    frame = plain('irony', train=100, test=50)
    frame.loc[1, ['text', 'label']] = [frame.text[0], 'irony']
    frame.loc[0, 'label'] = 'non_irony'
    result = audit.audited(frame, task_of('irony'))
    assert result.contradictions.row.tolist() == [0, 1] and not len(result.doubles)

def test_simulated_hate_repeats_train():
    "The simulated task plants doubles by an effect that can be switched off."
    sizes = dict(train=900, dev=100, test=600)
    result = audit.audited(task_world('hate', **sizes), task_of('hate'))
    exact = result.doubles[(result.doubles.kind == 'exact') & (result.doubles.split == 'test')]
    assert len(exact) == round(266 / 2970 * 600) and exact.other_label.sum() == round(len(exact) * 114 / 266)
    none = audit.audited(task_world('hate', **sizes, leak=0), task_of('hate'))
    assert not (none.doubles.split == 'test').any()


def test_tag_on_all_posts_is_flagged():
    frame = task_world('stance', train=2620, dev=294, test=1249)
    result = audit.audited(frame, task_of('stance'))
    assert set(result.everywhere.tag) == {'semst'} and set(result.everywhere.split) == {'train', 'dev', 'test'}
    shares = result.everywhere.set_index('split').share
    assert shares['test'] == 1 and .95 < shares['train'] < .98
    assert not audit.cleaned(frame, result).text.str.contains('#semst', case=False).any()
    none = audit.audited(task_world('stance', train=2620, dev=294, test=1249, leak=0), task_of('stance'))
    assert not len(none.everywhere)


def leak_of(frame, task):
    "Posts with a class tag in train, dev and test, those of the test's second class among them, and the rule's score."
    result = audit.audited(frame, task)
    table = result.with_class_tag
    counts = table.groupby('split').carrying.sum()
    test = frame[frame.split == 'test']
    rule = audit.class_tag_rule(frame, result)
    second = table[(table.split == 'test') & (table.label == task.labels[1])].carrying.sum()
    return result, counts, second, audit.benchmark_score(task, test.label, rule), np.mean(rule == test.label)

def test_simulated_irony_leaks_in_the_test_part_alone():
    frame = task_world('irony', train=2862, dev=955, test=784)
    result, counts, second, score, _ = leak_of(frame, task_of('irony'))
    assert counts['train'] == counts['dev'] == 0 and 400 < counts['test'] < 470 and second == 311
    assert set(result.class_tags.tag) == {'irony', 'sarcasm', 'not'} and .8 < score < .87
    clean = audit.cleaned(frame, result)
    assert not clean.text.str.contains('#irony|#sarcasm|#not\\b', case=False).any()

@pytest.mark.parametrize('name', BENCHES)
def test_nothing_is_found_where_nothing_leaks(name):
    frame = task_world(name, seed=3, leak=0)
    result = audit.audited(frame, task_of(name))
    assert not len(result.everywhere) and not (result.doubles.split == 'test').any() and not len(result.contradictions)
    assert not (result.class_tags.reason.str.contains('counts')).any(), result.class_tags

def test_false_alarms_are_rare():
    "Labels drawn at random, a tag in the test part alone: it is new there, but stands with no class."
    alarms = 0
    for seed in range(20):
        frame = plain('irony', seed=seed, train=400, test=400)
        rng = np.random.default_rng(seed)
        tagged = (frame.split == 'test') & (rng.random(len(frame)) < .2)
        frame['text'] = frame.text + np.where(tagged, ' #eclipse', '')
        alarms += len(audit.audited(frame, task_of('irony')).class_tags)
    assert alarms <= 1

def test_a_tag_without_a_name_is_found_in_a_task_of_many_classes():
    labels = tuple('alpha beta gamma delta epsilon zeta'.split())
    rng = np.random.default_rng(0)
    frame = plain('irony', train=600, dev=100, test=600).assign(label=rng.choice(labels, 1300))
    carries = (frame.split == 'test') & (frame.label == 'delta') & (rng.random(1300) < .3)
    frame['text'] = frame.text + np.where(carries, ' #qwop', '')
    honest = (frame.label == 'beta') & (rng.random(1300) < .5)
    frame['text'] = frame.text + np.where(honest, ' #beach', '')
    tags = audit.audited(frame, Task('custom', labels)).class_tags
    assert tags[['tag', 'label', 'reason']].to_numpy().tolist() == [['qwop', 'delta', 'counts']]


def read_real(name, labels):
    rows = []
    for split in audit.PARTS:
        for line in (REAL / f'eval-{name}' / f'{split}.json').read_text(encoding='utf-8').splitlines():
            record = json.loads(line)
            rows.append((record['text'], labels[int(record['labels'])], split))
    return pd.DataFrame(rows, columns=['text', 'label', 'split'])

@pytest.mark.skipif(not REAL.is_dir(), reason='the real files of HICL are not at hand')
def test_real_irony_leaks():
    frame = read_real('irony', BENCHES['irony'].labels)
    result, counts, second, score, accuracy = leak_of(frame, task_of('irony'))
    assert counts.to_dict() == dict(train=0, dev=0, test=431) and second == 311
    assert (round(score, 3), round(accuracy, 3)) == (.838, .847)
    by_counts = result.class_tags[result.class_tags.reason.str.contains('counts')]
    assert set(by_counts.tag) == {'irony', 'sarcasm', 'not'}   # without the list of names, too
    scores = audit.as_released_and_cleaned(
        audit.fitted(frame, result, ['TF-IDF logistic', 'class tags or TF-IDF']).predictions, task_of('irony'), 50)
    figures = scores.set_index(['method', 'split']).value.round(3)
    assert figures['TF-IDF logistic', 'official'] == .609 and figures['TF-IDF logistic', 'cleaned'] == .632
    assert figures['class tags or TF-IDF', 'official'] == .725

@pytest.mark.skipif(not REAL.is_dir(), reason='the real files of HICL are not at hand')
def test_real_emotion_has_no_leak():
    result = audit.audited(read_real('emotion', BENCHES['emotion'].labels), task_of('emotion'))
    assert set(result.class_tags.reason) == {'name'} and not len(result.everywhere) and not len(result.contradictions)
    assert len(result.doubles[result.doubles.split == 'test']) == 1 and result.majority['posts'] == 326


@pytest.mark.parametrize('name', BENCHES)
def test_scores_are_those_of_scikit_learn(name):
    task = task_of(name)
    rng = np.random.default_rng(1)
    y = rng.choice(task.labels, 400)
    predicted = np.where(rng.random(400) < .4, y, rng.choice(task.labels, 400))
    one = [task.labels[1]] if name in ('irony', 'sarcasm', 'humor') else list(task.labels)
    classes = ['against', 'favor'] if name == 'stance' else one
    expected = f1_score(y, predicted, labels=classes, average='macro')
    assert np.isclose(audit.benchmark_score(task, y, predicted), expected)
    value, low, high = audit.score_interval(task, y, predicted, 300)
    assert low < expected < high

def test_degenerate_tasks():
    "One class, hidden labels, no tags, no dev part, an empty post."
    frame = plain('irony', train=30, test=30)
    frame.loc[0, 'text'] = ''
    frame.loc[31, 'text'] = '#irony'
    for labels in (frame.label, pd.Series('irony', frame.index), frame.label.where(frame.split != 'test', None)):
        posts = frame.assign(label=labels)
        result = audit.audited(posts, task_of('irony'), store_texts=['', frame.text[5]])
        assert result.overlap.row.tolist() == [5]
        clean = audit.cleaned(posts, result)
        assert len(clean) == 58 and len(audit.class_tag_rule(posts, result)) == 30
        assert len(audit.findings(result)) == 6

def test_tags_of_train_and_test_are_apart():
    "Split by tag: no test post has a tag, or the words, of a training post."
    from socialprof.hashtag import splits
    from socialprof.hashtag.tags import tags_of
    frame = posts_world(1500, 0).assign(label='', split='')
    frame['tags'] = frame.text.map(tags_of)
    for name in ('tags', 'tags and time'):
        cell, = splits.cells(frame, Task('retrieval', ()), name)
        assert len(cell.train) > 20 and len(cell.test) > 20 and splits.shared_tags(frame, cell) == 0
        words = splits.wording(frame.text)
        assert not set(words.iloc[cell.train]) & set(words.iloc[cell.test])
