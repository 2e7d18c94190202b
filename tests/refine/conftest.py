"""The folder to predict in, for finer maps too."""

from tests.predict.conftest import make_head, place, weights_sha256

__all__ = ["make_head", "place", "weights_sha256"]
