"""The files that `tests.standin.install` lays out under a prefix: bin/ and the Mailman package."""
