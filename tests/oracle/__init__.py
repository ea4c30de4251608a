"""A slow, direct interpreter of the language, and whole programs to hold the compiler to it."""
