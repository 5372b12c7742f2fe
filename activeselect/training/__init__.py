"""Training: one run, in rounds of training, scoring and selection under Lightning."""
