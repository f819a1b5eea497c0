"""Relevancy in the patient: where a peak lies, which slices matter, and the maps as a volume."""
