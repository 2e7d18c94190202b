"""Stages `fetch`, `tile` and `features` for one slide after another, each removed afterwards."""
