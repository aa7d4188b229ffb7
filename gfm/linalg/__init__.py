"""Linear algebra on rows of weight vectors: eigenpairs, deflation, symmetric matrices as half vectors."""
