"""Local servers that stand in for the world outside: for `goqueue dev`, the demo and the tests."""
