"""One algorithm that proves, counts and optimises over all architectures at once, without enumerating them.

**The mathematics.** Let x_1 ... x_n be the decisions. A requirement is a function of few of them with values 0 and 1;
so is "x_i is absent exactly where its condition of presence fails". A cost is a sum of terms, each a function of few
decisions. For a commutative semiring (plus, times) the engine computes

    plus over all x of  times over all factors f of  f(x restricted to the decisions that f mentions)

by distributivity: to eliminate x_i, multiply the factors that mention it, add up over its values, and put the result,
a factor over the neighbours of x_i, in their place. The work is exponential only in the number of neighbours at that
moment (the *width*), which a good order keeps small: an inner choice vanishes inside its block. The semirings:

    (or, and)    is there an architecture?               a witness by walking back
    (+, x)       how many are there?                     ranks and uniform draws by walking back
    (min, +)     what does the cheapest cost?            the cheapest by walking back
    (max, +)     and the dearest?                        likewise

**Cells.** A decision may have 2^2304 values. It meets the factors only in *atoms*, the largest subexpressions that
depend on this decision alone, such as `0 < kept(units)`. Values on which all atoms agree are interchangeable, so the
engine works on *cells*: the classes of that relation, each with its exact size, and one more for "absent". The cells of
units are unions of intervals of the kept count k, of size sum of C(n, k). In (min, +) and (max, +) a term over one
decision is optimised inside each cell and never splits one. Nor does a product of widths where the whole cost rises
(or falls) with the kept count, or with the number of a choice's option: the best of a cell is then at one of its ends.

**Intermediates.** A factor over many decisions is split: a partial result (the sum of the first depths, a running
width, whether a node is alive) becomes a variable of its own, whose values are those it can take. Being a function of
the decisions it changes no sum over them.

**The diagram.** Elimination answers one question at a time. For populations the same variables are laid out as a
layered diagram (`diagram.py`): arcs over a few decisions each, between states that hold what later factors still ask
about. Counts, distributions, draws, the k cheapest, mutation and crossover are then sums and table look-ups over whole
arrays of architectures, inside a window of costs (`budget.py`, `variation.py`) as well as outside.
"""
