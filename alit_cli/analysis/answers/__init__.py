"""Questions as commands ask them, and their answers: the files that are written and the tables that are printed."""
