"""Inputs to items: folders, tars, Parquet files, lists and URLs, and what is carried along with an image."""
