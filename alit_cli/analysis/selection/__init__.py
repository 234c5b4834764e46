"""Which budget each image gets, and the table that says so."""
