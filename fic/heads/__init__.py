"""The trainable part: what a user can hand in or take away."""
