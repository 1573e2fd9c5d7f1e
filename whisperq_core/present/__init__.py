"""Results for readers: charts, report, slides, glossary, figure export.

Data in, figures and text out.
"""
