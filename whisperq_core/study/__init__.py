"""The study's published tables and claims, and the measures that decide the claims."""
