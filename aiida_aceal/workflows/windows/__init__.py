"""Policies of the window of extrapolation grades, from one generation to the next; pure."""
