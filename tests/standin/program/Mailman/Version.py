"""The version of Mailman whose contract the stand-in keeps."""

VERSION = "2.1.39"
MAJOR_REV = 2
MINOR_REV = 1
MICRO_REV = 39
