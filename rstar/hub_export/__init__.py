"""Writes what rounds made as folders for the Hugging Face hub: one data set, and a model per checkpoint, with cards."""
