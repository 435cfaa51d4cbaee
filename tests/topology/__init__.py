"""Site descriptions: read, checked, rendered, and played through."""
