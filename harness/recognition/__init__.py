"""How speech becomes words: models, features, decoding, likelihood."""
