"""Selection: the strategy interface, the training order, the sampler."""
