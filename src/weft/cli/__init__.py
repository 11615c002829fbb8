"""Entry points, no logic: flags become values, and the part they belong to is called."""
