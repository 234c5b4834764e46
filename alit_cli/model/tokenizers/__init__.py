"""The other tokenizers of the literature, each behind the interface of tokenizer_model.py."""
