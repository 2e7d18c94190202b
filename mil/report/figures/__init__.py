"""Figures and tables of the results, one module a section of the report."""
