"""One generation of a campaign."""
