"""Teachers that know the task: adapted to it, asked for masks of any images, and what to label next."""
