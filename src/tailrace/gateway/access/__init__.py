"""Who may ask, by which name, from which page, and how much at once."""
