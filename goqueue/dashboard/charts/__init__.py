"""What pages draw: figures in, positions out."""
