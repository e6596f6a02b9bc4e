"""The CustomResourceDefinition of EvolutionRound, generated from the models that validate rounds on a laptop."""
