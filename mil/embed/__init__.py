"""Stage `embed`: a bag and a slide encoder give the vector of a slide."""
