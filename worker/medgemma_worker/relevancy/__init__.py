"""Relevancy of a causal vision-language model: the rules, the fast way, and the reference."""
