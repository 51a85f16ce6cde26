"""A finished run as files for others: bundles, formats, their parity with PyTorch, the model card."""
