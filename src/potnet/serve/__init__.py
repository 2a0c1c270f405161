"""The same answers in a browser and for programs, on the user's own machine."""

from potnet.serve.app import make_app
from potnet.serve.reading import Limits

__all__ = ["Limits", "make_app"]
