"""Tensors to tensors: the base tokenizers, the recurrent tokenizer on top of them, and their checkpoints."""
