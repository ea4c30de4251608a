"""Plain torch modules, one for each kind of operator. They import torch only and know nothing of the compiler.

An exported network carries copies of the classes it uses, so a class names nothing but torch and its neighbours here.
"""
