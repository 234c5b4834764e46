"""What each token attends to: measures, study, sheets and figure."""
