"""The README tried as a new user would: each command in it is run, on bare Debian trees and on a
cluster, or stands in a short table of those that cannot be, with the reason."""
