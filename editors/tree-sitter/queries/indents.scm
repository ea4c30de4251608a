[
  (space_body)
  (changes)
  (block)
  (arguments)
  (formals)
  (list)
] @indent.begin

["}" ")" "]"] @indent.branch @indent.end
