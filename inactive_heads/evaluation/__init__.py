"""From log-likelihoods to accuracy and loss."""
