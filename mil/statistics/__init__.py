"""Statistics of predictions.

numpy alone where jobs start often; scipy only inside the functions that need it.
"""
