"""Data: problems, prompts, answers, and the built-in benchmark."""
