"""Reference labels by ASE calculators: which calculators there are, and batches of labels in processes of their own."""
