"""Parquet files that alit writes and reads: token tables, score tables, their parts and their originals."""
