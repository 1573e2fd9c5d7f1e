"""The study's published tables and claims, and the measures by which claims are judged."""
