"""The command line: one file per command, over the functions that pages and Python API use."""
