"""One run: rounds of training, scoring and selection under Lightning."""
