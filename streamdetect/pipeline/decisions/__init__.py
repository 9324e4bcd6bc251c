"""Why and how hard: features, rules, ladder, caps."""
