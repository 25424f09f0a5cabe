"""Reading: question and text to a model's inputs, the run, its logits to the answer; vectors likewise."""
