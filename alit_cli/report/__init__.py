"""The page of `alit view`: a token table and its pictures as one HTML file."""
