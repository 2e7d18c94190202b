"""Stage `evaluate`: heads and bags give predictions, metrics and, where tumour is annotated, localisation."""
