"""A round to be estimated, and the work of its stages: searches, and tokens to train on. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from rstar.rounds.estimate.assumptions import BOOTSTRAP_TOKENS, PAPER_COVERAGE, Assumptions
from rstar.rounds.estimate.model_size import ModelSize
from rstar.rounds.estimate.search_cost import SearchCost, Texts, search_cost
from rstar.rounds.guidance import FIRST_GUIDED_ROUND
from rstar.rounds.observed import Stage
from rstar.rounds.shared_samples import sampled_by
from rstar.rounds.spec import EvolutionRoundSpec


@dataclass(frozen=True, slots=True)
class PlannedRound:
    """A round's spec with what it depends on: the models, the numbers of problems, the assumptions.

    ``searching`` is the model of ``rollout.policy``, ``scoring`` that of ``preferenceModel.model``: None without one.
    """

    name: str
    spec: EvolutionRoundSpec
    model: ModelSize
    assumptions: Assumptions
    problems: int
    evaluated: int
    searching: ModelSize | None = None
    scoring: ModelSize | None = None

    @property
    def guided(self) -> bool:
        """Whether a PPM may guide the rollout; under auto the estimate takes it that the previous one is good enough."""
        use = self.spec.preference_model.use
        if self.spec.preference_model.model is not None:
            return True
        return use == "always" or (use == "auto" and self.spec.round >= FIRST_GUIDED_ROUND)

    @property
    def searches_at_an_endpoint(self) -> bool:
        """Whether a server outside the round generates for the rollout."""
        other = self.spec.rollout.policy
        return other is not None and other.endpoint is not None

    @property
    def coverage(self) -> float:
        """The share of the problems that all their searches solve."""
        paper = PAPER_COVERAGE[min(self.spec.round, len(PAPER_COVERAGE)) - 1]
        return paper if self.assumptions.coverage is None else self.assumptions.coverage

    @property
    def rollout_texts(self) -> Texts:
        """The texts of the rollout, with the prompt that it uses."""
        more = 0 if self.spec.rollout_prompt == "trained" else BOOTSTRAP_TOKENS
        return self.assumptions.with_values("", {"prompt_tokens": self.assumptions.prompt_tokens + more}).texts

    @property
    def policy_rate(self) -> float | None:
        """Generated tokens per second of all policy servers; None: unknown."""
        rate = self.assumptions.policy_rate
        return None if rate is None else rate * self.spec.services.policy.size

    @property
    def rollout_rate(self) -> float | None:
        """Generated tokens per second of all policy servers in the rollout, by the size of the model that searches."""
        rate, other = self.policy_rate, self.searching
        return rate if rate is None or other is None else rate * self.model.parameters / other.parameters

    @property
    def score_rate(self) -> float | None:
        """Scored candidates per second of all PPM servers; None: unknown.

        Where only the policy's rate is known, a score costs what generating the step's tokens does: one pass over them.
        """
        rate, policy = self.assumptions.score_rate, self.assumptions.policy_rate
        if rate is None and policy is not None:
            rate = policy / self.assumptions.step_tokens
            rate *= self.model.parameters / self.scoring.parameters if self.scoring is not None else 1.0
        return None if rate is None else rate * self.spec.services.ppm.size

    def rollout(self) -> SearchCost:
        """Return the work of the first search of every problem, and of the further ones where the earlier found no answer.

        Each search is taken to solve the same share of the problems that are left to it.
        """
        search, further = self.spec.search, self.spec.search.extra_rollouts
        configs = [search, *(search.model_copy(update={"rollouts": n, "trajectories": 1}) for n in further)]
        left = (1 - self.coverage) ** (1 / len(configs))
        costs = (search_cost(config, self.rollout_texts, guided=self.guided) for config in configs)
        return sum((cost.times(self.problems * left**turn) for turn, cost in enumerate(costs)), SearchCost())

    def evaluation(self) -> SearchCost:
        """Return the work of all methods of the evaluation; samples that several choose from are drawn once."""
        methods = self.spec.evaluate.methods if self.spec.evaluate.problems is not None else ()
        drawing = (one for one in methods if sampled_by(one, methods) is one)
        costs = (search_cost(one, self.assumptions.texts, guided=one.guidance == "ppm") for one in drawing)
        return sum((cost.times(self.evaluated) for cost in costs), SearchCost())

    def train_tokens(self, stage: Stage) -> float:
        """Return the tokens of the sequences of a training stage, over all its passes."""
        spec = self.spec.train_policy if stage is Stage.TRAIN_POLICY else self.spec.train_ppm
        sequences = self.sft_examples() if stage is Stage.TRAIN_POLICY else 2 * self.pairs()
        if not sequences:
            return 0.0
        return spec.max_train_tokens or spec.epochs * sequences * self.sequence_tokens(stage)

    def sft_examples(self) -> float:
        """Return the number of trajectories to imitate: all solved problems are taken to have enough of them."""
        select = self.spec.select
        kept = 1 - select.held_out_fraction if self.spec.trains_ppm else 1.0
        return self.problems * self.coverage * kept * select.trajectories_per_problem

    def pairs(self) -> float:
        """Return the number of preference pairs to train on.

        Where it is not measured: the pairs of one node per level, and those of the final-answer rule.
        """
        if not self.spec.trains_ppm:
            return 0.0
        rules, per_solved = self.spec.select, self.assumptions.pairs_per_solved
        if per_solved is None:
            steps = self.assumptions.steps - 1
            per_solved = rules.positives * rules.negatives * steps + rules.final_trajectories**2
        return self.problems * self.coverage * (1 - rules.held_out_fraction) * per_solved

    def sequence_tokens(self, stage: Stage) -> float:
        """Return the mean length of a training sequence: a trajectory, or as a side of a pair a part that ends anywhere."""
        texts = self.assumptions.texts
        steps = texts.steps if stage is Stage.TRAIN_POLICY else (texts.steps + 1) / 2
        return texts.prompt_tokens + steps * texts.step_tokens
