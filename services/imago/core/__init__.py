"""What Imago does: a package per feature, with pure models and rules beside the transactions that apply them."""
