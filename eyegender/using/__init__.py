"""What is done with finished runs: load a model from any reference, evaluate, predict, compare, promote, explain."""
