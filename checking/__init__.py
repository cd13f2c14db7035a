"""What is wrong with a data set, before training meets it. Knows labels and pictures; knows no network."""
