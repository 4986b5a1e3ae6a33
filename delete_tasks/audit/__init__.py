"""What can still be read out of a model that was made to forget: attacks, and what they say together."""
