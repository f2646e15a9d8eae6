"""WorkChains that label by a reference code; those of ASE are a job of the worker."""
