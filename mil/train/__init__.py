"""Stage `train`: bags, folds and a recipe give a head."""
