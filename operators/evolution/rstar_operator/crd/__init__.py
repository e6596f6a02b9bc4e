"""The CustomResourceDefinition of EvolutionRound, generated from the models that the laptop validates by."""
