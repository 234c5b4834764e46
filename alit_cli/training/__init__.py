"""Everything behind `alit train`."""
