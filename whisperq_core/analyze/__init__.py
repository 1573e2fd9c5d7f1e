"""What results mean: significance, paired comparisons, the Pareto front, the advisor."""
