"""Articles on their way in: CORD-19's format, sentences, concepts, and how far the pipeline is with them."""
