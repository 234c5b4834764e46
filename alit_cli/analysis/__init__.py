"""Tables to tables and figures; never images, never torch."""
