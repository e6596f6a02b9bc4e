"""From trees to training data (section 3.3): SFT trajectories, preference pairs, difficulty. Pure functions."""

from rstar.selection.difficulty import Difficulty, correct_share, difficulty
from rstar.selection.pairs import PairRules, PreferencePair, preference_pairs
from rstar.selection.sft import SftExample, SftRules, sft_examples

__all__ = [
    "Difficulty",
    "PairRules",
    "PreferencePair",
    "SftExample",
    "SftRules",
    "correct_share",
    "difficulty",
    "preference_pairs",
    "sft_examples",
]
