"""Stage `features`: an encoder turns the tiles of a slide into its bag."""
