"""What happens to images between the disk and the network."""

from kerasseg.augment._border_weights import border_weights

__all__ = ["border_weights"]
