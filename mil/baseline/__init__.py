"""Stage `baseline`: bags and folds give the metrics of a probe that is fitted at once."""
