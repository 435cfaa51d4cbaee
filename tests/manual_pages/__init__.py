"""Tests of the manual pages, as `make install` installs them and man sets them."""
