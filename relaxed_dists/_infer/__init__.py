"""What the inference of both backends shares."""
