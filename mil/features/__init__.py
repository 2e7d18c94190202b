"""Stage `features`: tiles and an encoder give a slide's bag."""
