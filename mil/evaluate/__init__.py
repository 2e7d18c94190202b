"""Stage `evaluate`: scores and labels give predictions, metrics and, where tumour is annotated, localisation."""
