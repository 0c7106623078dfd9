"""The rules of Imago, without I/O: everything else imports this package, and it imports nothing of ours."""
