"""What is recorded of a training beside its log: losses, curves elsewhere, and the card."""
