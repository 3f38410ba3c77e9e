"""The data sets: one file a data set."""
