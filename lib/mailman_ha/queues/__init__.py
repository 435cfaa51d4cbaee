"""Queue directories: entry names, depth and age, without opening or stating an entry."""
