"""Train a smaller model to give what a larger one gives: shapes, inheritance, teacher passes, losses, the loop."""
