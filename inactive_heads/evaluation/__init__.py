"""Evaluation of a task with heads silenced: from log-likelihoods to accuracy and loss."""
