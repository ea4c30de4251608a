[
  (space_body)
  (changes)
  (block)
  (arguments)
  (list)
  (comprehension)
] @fold
