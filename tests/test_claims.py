"""Every claim of every paper: true worlds give 'holds', false worlds 'reversed'; sentences and sums agree; nothing is counted twice."""
import re
from zlib import crc32
import numpy as np
import pandas as pd
import pytest
from socialprof.lab.draws import Resampled
from socialprof.lab.intervals import metric_in
from socialprof.lab.ledger import verdict
from socialprof.lab.metrics import metric_of
from socialprof.lab.predictions import codes
from socialprof.lab.results import paper_module

PAPERS = ('influencer', 'violence', 'retweet', 'hashtag', 'engagement')
CLAIMS = [(paper, claim) for paper in PAPERS for claim in paper_module(paper, 'claims').CLAIMS]
COMPUTED = [(paper, claim) for paper, claim in CLAIMS if claim.terms]
NAMES = [f'{paper} {claim.id} {claim.task}' for paper, claim in COMPUTED]
# "nothing is lost": such a sentence is true of a small loss, too
NOTHING = re.compile(r'costs nothing|cost nothing|loses? nothing|nothing is lost|loses no |stays|as good as|no worse|as it is')
ROWS = 150


def weight_of(claim, **wanted) -> float:
    "The sum of the weights of the terms that are about this; a smaller error is better, which the ledger knows itself."
    total = 0.
    for weight, method, split, *own in claim.terms:
        term = dict(method=method, split=split, metric=metric_in((weight, method, split, *own), claim.metric))
        if all(term[name] == value for name, value in wanted.items()): total += weight
    return total

def labels_in(claim) -> list[str]:
    "The labels that the metrics name, filled up to four."
    named = [metric_in(term, claim.metric).partition(':')[2] for term in claim.terms]
    return list(dict.fromkeys([*filter(None, named), 'more', 'most', 'some', 'few']))[:max(4, len(set(filter(None, named))))]

def skill(claim, true: bool, method: str, split: str, label: str) -> float:
    "How much a method knows of a label: much where its weight in the sum is above zero, nothing where it is below."
    own = [metric_in(term, claim.metric) for term in claim.terms if term[1] == method and term[2] == split]
    about = {name for name in own if name.endswith(f':{label}')} or {name for name in own if ':' not in name} or set(own)
    weight = sum(weight_of(claim, method=method, split=split, metric=name) for name in about)
    return .99 if (weight > 0) == true else .05

def offset(claim, true: bool, method: str, split: str) -> float:
    "Two averages of one method in one sum: common labels get higher scores where the micro average is to be the larger."
    own = {metric_in(term, claim.metric) for term in claim.terms if term[1] == method and term[2] == split}
    if len(own) < 2 or not any(name.startswith('micro') for name in own): return 0.
    return 1. if (weight_of(claim, method=method, split=split, metric='micro_auc') > 0) == true else -1.

def labelled(claim, true: bool, method: str, split: str, rng) -> dict:
    "Columns of predictions of labels."
    labels = labels_in(claim)
    often = np.linspace(.7, .1, len(labels))
    y = np.random.default_rng(crc32(split.encode())).random((ROWS, len(labels))) < often
    know = np.array([skill(claim, true, method, split, label) for label in labels])
    lift = offset(claim, true, method, split)
    if lift: know = np.full(len(labels), .1)
    chance = rng.random(y.shape)
    scores = know * (.01 + .98 * y) + (1 - know) * chance
    scores = np.clip(scores * (.2 if lift else 1) + lift * (often - .4) + (.4 if lift else 0), .001, .999)
    columns = {f'score.{label}': column.astype('float32') for label, column in zip(labels, scores.T, strict=True)}
    return dict(y=codes(y), predicted=codes(scores > .5)) | columns

def classed(claim, true: bool, method: str, split: str, rng) -> dict:
    "Columns of predictions of classes; those that the metric names are among them."
    named = claim.metric.partition(':')[2].split('+') if ':' in claim.metric else []
    classes = list(dict.fromkeys([*named, 'no', 'nano', 'micro']))[:3]
    y = np.random.default_rng(crc32(split.encode())).choice(classes, ROWS)
    right = rng.random(ROWS) < .3 + .6 * skill(claim, true, method, split, '')
    return dict(y=y, predicted=np.where(right, y, rng.permutation(y)))

def ranked(claim, true: bool, method: str, split: str, rng) -> dict:
    "Columns of rankings of twelve ids, two of them relevant; who knows puts these first."
    ids = [f'p{i}' for i in range(12)]
    orders = [rng.permutation(ids).tolist() for _ in range(ROWS)]
    y = [rng.permutation(ids)[:2].tolist() for _ in range(ROWS)]
    right = rng.random(ROWS) < skill(claim, true, method, split, '')
    predicted = [[*best, *(one for one in order if one not in best)][:10] if good else [one for one in order if one not in best]
                 for best, order, good in zip(y, orders, right, strict=True)]
    return dict(kind='rankings', y=y, predicted=predicted)

def valued(claim, true: bool, method: str, split: str, rng) -> dict:
    "Columns of numbers; who knows is off by a hundredth, who does not by a factor of e to the ninth and more."
    y = np.floor(np.random.default_rng(crc32(split.encode())).lognormal(4, 2, ROWS))
    off = rng.normal(0, .01, ROWS) if skill(claim, true, method, split, '') > .5 else rng.uniform(9, 11, ROWS)
    return dict(kind='values', y=y, predicted=np.expm1(np.log1p(y) + off))

def texted(claim, true: bool, method: str, split: str, rng) -> dict:
    "Columns of texts of twelve words; who knows changes one of them."
    words = [f'word{i}' for i in range(400)]
    y = [' '.join(row) for row in np.random.default_rng(crc32(split.encode())).choice(words, (ROWS, 12))]
    knows = skill(claim, true, method, split, '') > .5
    return dict(kind='texts', y=y, predicted=[' '.join([*text.split()[:11], 'end'] if knows else rng.choice(words, 12)) for text in y])

def maker(paper: str, claim):
    "What makes predictions of the kind that a claim is about."
    if paper == 'engagement': return dict(accuracy=classed, rougeL=texted, bleu4=texted).get(claim.metric, valued)
    if {metric_in(term, claim.metric).partition('@')[0] for term in claim.terms} & {'hit', 'p', 'ndcg'}: return ranked
    classes = paper == 'influencer' or paper == 'hashtag' and claim.task != 'retrieval'
    return classed if classes else labelled

def predictions(paper: str, claim, true: bool) -> pd.DataFrame:
    "A world in which the claim's sum is above what it asks for, or in which it is below."
    make = maker(paper, claim)
    parts = []
    for method, split in dict.fromkeys((method, split) for _, method, split, *_ in claim.terms):
        for seed in range(3):
            rng = np.random.default_rng([seed, crc32(f'{method} {split}'.encode())])
            about = dict(task=claim.task, method=method, split=split, fold=0, seed=seed, unit=[f'u{i}' for i in range(ROWS)])
            parts.append(pd.DataFrame(about | make(claim, true, method, split, rng)))
    return pd.concat(parts, ignore_index=True)


@pytest.mark.parametrize(('paper', 'claim'), COMPUTED, ids=NAMES)
def test_a_claim_holds_in_a_true_world_and_is_reversed_in_a_false_one(paper, claim):
    worlds = [predictions(paper, claim, true) for true in (True, False)]
    good, bad = (verdict(claim, world, Resampled(world, 150)) for world in worlds)
    assert (good['verdict'], bad['verdict']) == ('holds', 'reversed'), (good['gap'], good['reason'], bad['gap'], bad['reason'])


@pytest.mark.parametrize(('paper', 'claim'), COMPUTED, ids=NAMES)
def test_nothing_lost_is_a_sentence_about_a_small_loss(paper, claim):
    "Who says that nothing is lost must say how little is nothing; who says that something is better must not."
    assert bool(NOTHING.search(claim.text)) == (claim.minimal < 0), (claim.text, claim.minimal)


HARDER = re.compile(r'harder|flatters|costs|loses|falls')
EASY = {'influencer': ('cv',), 'violence': ('random',), 'retweet': ('post',), 'hashtag': ('official', 'posts'), 'engagement': ('random',)}

@pytest.mark.parametrize(('paper', 'claim'), COMPUTED, ids=NAMES)
def test_a_harder_split_has_the_lower_score(paper, claim):
    "'B is harder' and 'A flatters' say that the score on the easy split is the higher one; 'costs nothing' that it is not."
    splits = {term[2] for term in claim.terms}
    if len(splits) < 2 or len({term[1] for term in claim.terms}) > 1: pytest.skip('one split, or several methods')
    easy = sum(weight for weight, _, split, *_ in claim.terms if split in EASY[paper])
    if NOTHING.search(claim.text): assert easy < 0
    else: assert HARDER.search(claim.text) and easy > 0


def test_no_claim_is_counted_twice():
    for paper in PAPERS:
        seen = {}
        for claim in paper_module(paper, 'claims').CLAIMS:
            if not claim.terms: continue
            sums = {}
            for term in claim.terms:
                key = (term[1], term[2], metric_in(term, claim.metric))
                sums[key] = sums.get(key, 0.) + term[0] * metric_of(key[2]).sign
            key = (claim.task, frozenset((name, round(weight, 9)) for name, weight in sums.items()), claim.minimal)
            assert key not in seen, (claim.id, seen[key])
            seen[key] = claim.id
