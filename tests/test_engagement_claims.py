"""The claims about likes, words and pictures: a world in which each holds, one in which it is reversed; figures and names that fit."""
from zlib import crc32
import numpy as np
import pandas as pd
import pytest

from socialprof.engagement.claims import CLAIMS, GROUPS, NUMBERS, PAIRS, PLAIN, SUMMARY, TRIFLE, claims_on
from socialprof.engagement.data import load
from socialprof.engagement.splits import SPLITS, cells
from socialprof.lab.draws import Resampled
from socialprof.lab.intervals import metric_in
from socialprof.lab.ledger import verdict
from socialprof.lab.metrics import metric_of

COMPUTED = [claim for claim in CLAIMS if claim.terms]
BY_ID = {claim.id: claim for claim in CLAIMS}
ROWS = 150
WORDS = [f'word{i}' for i in range(400)]


def is_good(claim, method, split, true):
    "Should a method be good on a split for the claim to be true (or, in a false world, bad)?"
    weight = sum(weight for weight, name, on, *_ in claim.terms if (name, on) == (method, split))
    return (weight > 0) == true

def valued(good, rng, split):
    "Likes; a good method is off by a hundredth, a bad one by a factor of e to the tenth."
    y = np.floor(np.random.default_rng(crc32(split.encode())).lognormal(4, 2, ROWS))
    off = rng.normal(0, .01, ROWS) if good else rng.uniform(9, 11, ROWS)
    return dict(kind='values', y=y, predicted=np.expm1(np.log1p(y) + off))

def texted(good, rng, split):
    "Posts of twelve words; a good method changes one of them, a bad one writes others."
    y = [' '.join(row) for row in np.random.default_rng(crc32(split.encode())).choice(WORDS, (ROWS, 12))]
    predicted = [' '.join([*text.split()[:11], 'end']) if good else ' '.join(rng.choice(WORDS, 12)) for text in y]
    return dict(kind='texts', y=y, predicted=predicted)

def classed(good, rng, split):
    "Accounts; a good method is right nine times of ten."
    y = np.random.default_rng(crc32(split.encode())).choice([f'a{i}' for i in range(6)], ROWS)
    return dict(y=y, predicted=np.where(rng.random(ROWS) < (.9 if good else .1), y, rng.permutation(y)))

def maker(claim):
    "What makes predictions of the kind that a claim is about: its metric says which."
    return dict(accuracy=classed, rougeL=texted, bleu4=texted).get(claim.metric, valued)

def world(claim, true):
    "Predictions of all terms of a claim, three fits each."
    parts = []
    for method, split in dict.fromkeys((method, split) for _, method, split, *_ in claim.terms):
        good = is_good(claim, method, split, true)
        for seed in range(3):
            rng = np.random.default_rng([seed, crc32(f'{method} {split}'.encode())])
            about = dict(task=claim.task, method=method, split=split, fold=0, seed=seed, unit=[f'u{i}' for i in range(ROWS)])
            parts.append(pd.DataFrame(about | maker(claim)(good, rng, split)))
    return pd.concat(parts, ignore_index=True)


@pytest.mark.parametrize('claim', COMPUTED, ids=lambda claim: f'{claim.id} {claim.task}')
def test_a_claim_holds_in_a_true_world_and_is_reversed_in_a_false_one(claim):
    good, bad = (verdict(claim, table, Resampled(table, 150)) for table in (world(claim, True), world(claim, False)))
    assert (good['verdict'], bad['verdict']) == ('holds', 'reversed'), (good['gap'], good['reason'], bad['gap'], bad['reason'])

def test_the_printed_scale_is_refuted_by_a_constant():
    "A spread of 2.6, as published: a constant is better than 5.3876, 3.6929 and 8.3262; one of 6 is not better than the first two."
    def constant(spread, seed):
        rng = np.random.default_rng([seed, 3])
        y = np.expm1(np.abs(rng.normal(8, spread, 4000)))
        about = dict(task='likes', method='constant', split='random', fold=0, seed=seed, kind='values', unit=np.arange(4000).astype(str))
        return pd.DataFrame(about | dict(y=y, predicted=np.expm1(np.log1p(y).mean())))
    def verdicts(spread):
        table = pd.concat([constant(spread, seed) for seed in range(3)])
        return [verdict(BY_ID[name], table)['verdict'] for name in ('E1a', 'E1b', 'E1c')]
    assert verdicts(2.6) == ['holds', 'holds', 'holds']
    assert verdicts(6.)[1] == 'reversed' and verdicts(6.)[2] == 'holds'

def test_splits_and_metrics_exist():
    for claim in COMPUTED:
        for term in claim.terms: assert term[2] in SPLITS and metric_of(metric_in(term, claim.metric))
    assert {SUMMARY.metrics[claim.task] for claim in CLAIMS} <= {'rmse:log1p', 'rougeL', 'accuracy'}

def test_a_random_split_never_stands_alone():
    "Each comparison on random posts is also asked on another split."
    for name, group in GROUPS.items():
        alone = {claim.text for claim in group if {term[2] for term in claim.terms} == {'random'}}
        beside = {claim.text for claim in group if claim.terms and {term[2] for term in claim.terms} != {'random'}}
        assert alone <= beside, (name, alone - beside)

def test_nothing_is_held_against_a_small_loss():
    for claim in COMPUTED:
        nothing = any(words in claim.text for words in ('as good as', 'loses nothing', 'no worse'))
        assert nothing == (claim.minimal < 0), claim.text
    assert BY_ID['E2i'].minimal == -TRIFLE

def test_scales_are_not_mixed_in_a_claim():
    for claim in COMPUTED: assert len({metric_in(term, claim.metric) for term in claim.terms}) == 1

def test_generated_posts_are_compared_without_placeholders_unless_the_claim_says_so():
    for claim in COMPUTED:
        if claim.task != 'post': continue
        plain = {term[1].endswith(PLAIN) for term in claim.terms}
        assert plain == {'placeholders counted' not in claim.text}

def test_every_figure_of_the_report_is_there():
    values = {number.value for number in NUMBERS if number.table.startswith(('Table', 'Section'))}
    assert {5.3876, 3.6929, 8.3262, 773., 4931., 889., 675., 1.8126, 8.1, 30., 1e-4, 8, .8, .6, 42, 16, 32, .05, 550, 2e-4, 100} <= values

def test_claims_are_carried_over_to_own_posts():
    own = claims_on(['custom'])
    assert {claim.task for claim in own} == {'custom'} and len(own) == sum(claim.task == 'likes' for claim in COMPUTED)

def test_no_method_is_claimed_that_is_not_there():
    from socialprof.engagement import protocol
    for task in ('likes', 'post', 'picture'):
        terms = [term[1] for claim in COMPUTED if claim.task == task for term in claim.terms if not term[1].endswith(PAIRS)]
        assert {name.removesuffix(PLAIN) for name in terms} <= set(protocol.methods_of(task)), task
    assert {number.ours for number in NUMBERS} <= {*protocol.METHODS, ''}


def test_a_source_without_likes_says_so():
    "Test files alone: the reason is the missing target, whatever the split."
    frame, task = load('likes', 'simulated', rows=300)
    hidden = frame.assign(likes=np.nan)
    for split in SPLITS:
        with pytest.raises(ValueError, match='found none; add a training file'): cells(hidden, task, split)
