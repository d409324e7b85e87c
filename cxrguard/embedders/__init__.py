"""Image embedders that find copies: one a file, chosen by ``conf/embedder``; none runs code that comes with its weights."""
