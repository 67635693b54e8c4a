"""For tests of one's own durable functions, and for tests of the compiler on other people's code."""
