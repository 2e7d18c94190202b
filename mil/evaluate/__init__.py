"""Stage `evaluate`: scores and labels give predictions, metrics and localisation."""
