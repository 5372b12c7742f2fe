"""Scoring: the metric, the signals, the live scorer, the score store."""
