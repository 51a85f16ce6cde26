"""Students, teachers, and the taps by which both are read."""
