"""The CustomResourceDefinitions of EvolutionRound and Evolution, generated from the models that validate rounds on a laptop."""
