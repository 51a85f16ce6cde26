"""The feature store of a bundle."""
