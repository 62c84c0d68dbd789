"""The parts of inference that both backends share."""
