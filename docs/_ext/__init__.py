"""What the site needs beside Sphinx and MyST: blocks of pages, pictures drawn by nasdsl, pages made of records."""
