"""Report of a study: sentences, tables, figures and one HTML page.

In: importance and effects of axes, the trial table, plots.
Not in: intervals and gains of models (`evaluation`).
"""
