"""Shapes of the arrays that statistics take; `n` is the number of slides."""

import numpy as np
from jaxtyping import Float, Int

# Class numbers or, of one class against the rest, 1 and 0.
Labels = Int[np.ndarray, " n"]
# A number for each slide: a score, a time, an error.
Numbers = Float[np.ndarray, " n"]
Probabilities = Float[np.ndarray, "n classes"]
# Number of each slide's patient, from 0.
Members = Int[np.ndarray, " n"]
# How often each slide occurs in each sample; floats, since they are multiplied.
Weights = Float[np.ndarray, "draws n"]
# A metric of each sample.
Draws = Float[np.ndarray, " draws"]
