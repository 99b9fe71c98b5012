"""Training of logic gate networks: the loop, and the architectures of the literature."""
