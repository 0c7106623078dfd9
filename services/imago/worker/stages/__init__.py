"""The handlers of the stages: each analyses the image of a claim."""
