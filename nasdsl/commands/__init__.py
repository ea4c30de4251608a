"""The commands of the command line, a module each: `options(parser)` describes it, `run(args)` runs it."""
