"""The claims about retweets: what their sentences say is what their sums say, and what is compared is named by a method."""
import numpy as np
import pandas as pd
import pytest

from socialprof.lab.ledger import verdict
from socialprof.lab.predictions import codes
from socialprof.retweet.claims import CLAIMS, NUMBERS, SMALL, TOWERS, TWEET
from socialprof.retweet.protocol import METHODS, NETWORKS_BY_NAME, Work, budget_of

BY_ID = {claim.id: claim for claim in CLAIMS}

class Limits:
    "What budgets read of views; ids of multilingual BERT, as the files have them."
    max_length = 32
    vocabulary = ''
    frame = pd.DataFrame()


def predicted(method, split, signal, seed, n=3000):
    "Probabilities that tell so much of a label; units and posts of their own on each split."
    rng = np.random.default_rng([seed, len(split)])
    x = rng.normal(size=n)
    y = rng.random(n) < 1 / (1 + np.exp(2.2 - 1.5 * x))
    p = 1 / (1 + np.exp(2.2 - 1.5 * signal * x + 1.1 * (1 - signal) ** 2))
    about = dict(method=method, split=split, task='retweet', fold=0, seed=seed, unit=[f'{split}{i // 2}' for i in range(n)])
    return pd.DataFrame(about | dict(y=codes(y[:, None]), predicted=codes(p[:, None] > .5)) | {'score.retweet': p.astype(np.float32)})



def test_new_readers_cost_nothing_is_turned_round():
    claim = BY_ID['R3f']
    dear = pd.concat([predicted(TWEET, split, signal, seed) for split, signal in (('post', 1.), ('reader', .1)) for seed in range(3)])
    free = pd.concat([predicted(TWEET, split, 1., seed) for split in ('post', 'reader') for seed in range(3)])
    assert verdict(claim, dear)['gap'] < -5 and verdict(claim, dear)['verdict'] == 'reversed'
    better = pd.concat([predicted(TWEET, split, signal, seed) for split, signal in (('post', .5), ('reader', 1.)) for seed in range(3)])
    assert verdict(claim, better)['verdict'] == 'holds' and abs(verdict(claim, free)['gap']) < 4
    assert verdict(BY_ID['R3b'], dear.replace(TWEET, 'boost all'))['verdict'] == 'holds'      # harder is the other way round

@pytest.mark.parametrize('claim', [claim for claim in CLAIMS if 'nothing' in claim.text and claim.terms], ids=lambda claim: claim.id)
def test_nothing_is_held_against_a_small_loss(claim):
    assert claim.minimal < 0 and sum(term[0] for term in claim.terms) == 0
    assert claim.minimal in (SMALL, -1.)

def test_no_method_is_claimed_that_is_not_there():
    names = {term[1].partition(' | ')[0] for claim in CLAIMS for term in claim.terms}
    assert names <= set(METHODS) and {number.ours for number in NUMBERS} <= {*METHODS, ''}

def test_printed_figures_of_pretrained_encoders_stand_beside_no_small_network():
    text_only = [number for number in NUMBERS if number.table == 'thesis of 2021: text only']
    assert text_only and not any(number.ours for number in text_only)
    assert not budget_of(Limits, Work(), TWEET)['pretrained'] and budget_of(Limits, Work('paper'), TWEET)['pretrained']

@pytest.mark.parametrize('claim', [claim for claim in CLAIMS if claim.id[:2] in ('R1', 'R7') and claim.terms], ids=lambda claim: claim.id)
def test_networks_that_are_compared_have_equal_budgets(claim):
    "Tokens, passes and pretraining in each profile, but for what a claim is about."
    names = [term[1] for term in claim.terms if term[1] in NETWORKS_BY_NAME]
    for profile in ('quick', 'standard', 'paper'):
        budgets = [budget_of(Limits, Work(profile), name) for name in names]
        for what in {'tokens', 'epochs', 'pretrained'} - set(claim.apart):
            assert len({budget[what] for budget in budgets if what in budget}) <= 1, (claim.id, profile, what)

def test_the_answer_is_tried_on_the_answers_architecture():
    "Nothing in R1 looks at the likeness of posts or has a line past the network."
    for claim in CLAIMS:
        if not claim.id.startswith('R1'): continue
        for _, method, *_ in claim.terms:
            settings = NETWORKS_BY_NAME.get(method, ({},))[0]
            assert not settings.get('match') and not settings.get('straight') and 'wide' not in method
    assert NETWORKS_BY_NAME[TOWERS][0] == {} and not Work().network({}, 0).match
