"""Linear probes on pooled tokens."""
