"""Run a bundle's configuration: what its expressions may ask of the run they are in, its options, its stages."""
