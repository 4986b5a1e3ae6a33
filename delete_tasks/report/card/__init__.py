"""Folder of an erased model as the Hugging Face Hub has it: model card, weights, record."""
