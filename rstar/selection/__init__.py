"""From trees to training data (section 3.3): SFT trajectories, preference pairs, difficulty. Pure functions."""

from rstar.selection.difficulty import Difficulty, correct_share, difficulty
from rstar.selection.pairs import Continuation, PairGroup, PairRules, PreferencePair, pair_groups, preference_pairs
from rstar.selection.sft import SftExample, SftRules, sft_examples

__all__ = [
    "Continuation",
    "Difficulty",
    "PairGroup",
    "PairRules",
    "PreferencePair",
    "SftExample",
    "SftRules",
    "correct_share",
    "difficulty",
    "pair_groups",
    "preference_pairs",
    "sft_examples",
]
