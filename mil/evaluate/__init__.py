"""Stage `evaluate`: predictions and metrics of trained heads, and how well attention localises."""
