"""Pictures read ahead of the model."""
