"""The three stages of training, and what each of them minimizes."""
