"""Records to results, verdicts, tables, figures and one page. Knows no JAX."""
