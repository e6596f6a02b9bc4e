"""From trees to training data (section 3.3): SFT trajectories, preference pairs, difficulty. Pure functions."""

from rstar.selection.difficulty import Difficulty, correct_share, difficulty
from rstar.selection.pairs import Continuation, PairGroup, PairRules, pair_groups
from rstar.selection.sft import SftExample, SftRules, sft_examples

__all__ = [
    "Continuation",
    "Difficulty",
    "PairGroup",
    "PairRules",
    "SftExample",
    "SftRules",
    "correct_share",
    "difficulty",
    "pair_groups",
    "sft_examples",
]
