"""Which examples come next: the strategy interface, the order, the sampler."""
