"""A trained network outside training: the facts that it needs, its safe construction, what runs it."""
