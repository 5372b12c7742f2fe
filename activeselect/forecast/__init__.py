"""What test accuracy to expect, without test labels."""
