"""Studies: many runs, compared and reported."""
