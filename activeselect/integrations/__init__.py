"""The same selection inside training loops of other libraries."""
