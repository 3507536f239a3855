"""The parts of pages: values as text or as trees that templates show."""
