"""A developer's machine: embedded servers, the demo, and fakes of the world outside."""
