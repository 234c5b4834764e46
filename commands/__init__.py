"""The doors: one file a command, options in, one call into the library, results printed."""
