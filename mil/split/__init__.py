"""Stage `split`: the slide table and the slides' states give folds, by patient."""
