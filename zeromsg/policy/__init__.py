"""Floor 2: decisions as values. Who may say what, and who hears it next."""
