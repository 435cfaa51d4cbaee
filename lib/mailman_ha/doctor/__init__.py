"""Is the site set up right? What is looked at (`observe`), and a module of findings by subject."""
