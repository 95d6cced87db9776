"""What the rooms below test with."""

from tests.evaluation.conftest import perceptual, photos
from tests.sampling.conftest import model, photo, plain_model

__all__ = ["model", "perceptual", "photo", "photos", "plain_model"]
