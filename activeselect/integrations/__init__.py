"""Integrations: selection inside training loops of other libraries."""
