"""What is learned from: problems, prompts, answers, and the built-in benchmark."""
