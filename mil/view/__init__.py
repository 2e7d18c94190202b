"""Verb `view`: slides of a study with their scores, as a page on the loopback interface."""
