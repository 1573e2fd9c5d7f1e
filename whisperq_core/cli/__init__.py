"""The command line, one file per command, over the same functions as the pages and the Python API."""
