"""Benchmarks: commands that anyone can repeat. They print figures; no test depends on a time."""
