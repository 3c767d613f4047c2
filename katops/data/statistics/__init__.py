"""What is found out by reading a whole data set: statistics of its channels, and values that are not finite."""
