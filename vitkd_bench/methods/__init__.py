"""The methods: one file a method."""
