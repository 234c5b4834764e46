"""Bytes to fitted pixels: decoding, fitting, views and plain measures of complexity."""
