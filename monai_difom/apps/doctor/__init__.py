"""What is wrong with a run, or right, in plain words, and what to do about it."""
