"""What state each example is in: the metric, the live scorer, the score store."""
