"""`imago evaluate`: a folder of labelled images through an instance of its own, and the tables of how well it did."""
