"""Input files of campaigns and comparisons: what may stand in them, reading, and the builder."""
