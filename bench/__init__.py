"""What a monitor and a sweep cost, as ratios within one run."""
