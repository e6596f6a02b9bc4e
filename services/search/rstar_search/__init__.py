"""The search coordinator: solves problems with the policy, the executor and, where there is one, the PPM."""
