"""What editors and highlighters need: the language server, a lexer for Pygments, and the words of the language."""
