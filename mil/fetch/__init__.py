"""Stage `fetch`: a file that the slide table names by URL is downloaded."""
