"""WorkChains that explore."""
