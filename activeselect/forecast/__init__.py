"""Forecast of test accuracy, without test labels."""
