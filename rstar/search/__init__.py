"""Search over reasoning steps (section 3.2): MCTS, beam search and whole-solution sampling behind one function, ``solve``."""
