"""The search coordinator: solves problems with the policy, the executor and, if there is one, the PPM."""
