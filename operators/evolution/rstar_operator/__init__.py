"""The EvolutionRound operator: carries out the planner's actions on a Kubernetes cluster."""
