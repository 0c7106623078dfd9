"""How well Imago reads, tags and finds the images of a labelled folder: labels, scores and tables, without I/O."""
