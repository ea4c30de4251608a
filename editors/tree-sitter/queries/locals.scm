; Where names are declared, and where they hold.

[
  (source_file)
  (space_body)
  (operator)
  (fusion)
  (block)
  (for)
  (comprehension)
] @local.scope

(space name: (identifier) @local.definition.type)
(derived_space name: (identifier) @local.definition.type)
(operator name: (identifier) @local.definition.function)
(fusion name: (identifier) @local.definition.function)
(let name: (identifier) @local.definition.var)
(param name: (identifier) @local.definition.var)
(formal name: (identifier) @local.definition.parameter)
(bind name: (identifier) @local.definition.var)
(block (named key: (identifier) @local.definition.var))

(identifier) @local.reference
