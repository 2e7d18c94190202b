"""Stage `tile`: where on a slide there is tissue to look at."""
