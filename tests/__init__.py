"""Tests of mil, and the helpers that they share; a package, so that no installed one hides it."""
