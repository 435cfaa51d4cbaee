"""One Mailman installation, 2.1 or 3: where it is, how it is configured, what of it runs."""
