"""Verdicts and intervals in worlds whose truth is known: few worlds, wide bounds; `socialprof worlds --full` takes many."""
import pytest
from scipy.stats import binom
from socialprof.lab import worlds
from socialprof.lab.ledger import DECIDED

WORLDS = 20


@pytest.mark.parametrize('name', worlds.DESIGNS)
def test_equal_methods_are_seldom_told_apart_and_intervals_cover(name):
    "No more verdicts than 5 % give with luck of one in a thousand; the interval of a score covers the mean of all worlds."
    table = worlds.worlds(worlds.DESIGNS[name], 200, range(WORLDS))
    decided = table[['again verdict', 'right verdict']].isin(DECIDED).to_numpy().sum()
    covered = ((table.low <= table.score.mean()) & (table.score.mean() <= table.high)).sum()
    assert decided <= binom.ppf(.999, 2 * WORLDS, .05) and covered >= binom.ppf(.001, WORLDS, .92)
    assert (table.low < table.high).all() and table.score.nunique() == WORLDS


@pytest.mark.parametrize('name', ['one test set, 3 seeds', 'four folds, 2 seeds'])
def test_an_effect_as_large_as_the_ledger_calls_visible_is_found(name):
    found = worlds.power(worlds.DESIGNS[name], 200, range(10))
    assert found['gap'] >= found['stated'] and float(found['found'].partition('%')[0]) >= 50
