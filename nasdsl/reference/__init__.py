"""What is told of everything that a file can say, and of every mistake: by `nasdsl help` and `nasdsl explain`, and in
the reference of the site. It is read from the records that the compiler and the searches themselves use.
"""
