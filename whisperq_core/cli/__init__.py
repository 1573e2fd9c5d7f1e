"""The command line, one file a command, over the same functions as the pages and the Python API."""
