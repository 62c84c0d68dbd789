"""The hot formulas compiled to machine code, for float32 on a CPU."""
