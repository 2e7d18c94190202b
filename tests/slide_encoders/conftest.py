"""Slide encoders in their published shape, without the time that their initialisation takes."""

import pytest
from torch import nn


@pytest.fixture
def without_initialisation(monkeypatch):
    """Parameters are memory that nothing has written to."""
    monkeypatch.setattr(nn.Linear, "reset_parameters", lambda self: None)
    monkeypatch.setattr(nn.MultiheadAttention, "_reset_parameters", lambda self: None)
