"""Statistics that know nothing of tables."""
