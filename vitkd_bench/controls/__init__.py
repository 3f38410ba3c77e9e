"""The controls: what takes from a method the one thing that its claim rests on."""
