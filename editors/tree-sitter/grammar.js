// The language of nasdsl, as compiler/grammar.lark has it.
//
// A line break separates items, but for lines that begin with an infix operator or a closing bracket: src/scanner.c tells.
// `x` and `step` are words like others where no infix operator can stand.

const PREC = {
  pipe: 1,
  if: 2,
  implies: 3,
  or: 4,
  and: 5,
  not: 6,
  compare: 7,
  range: 8,
  size: 9,
  sum: 10,
  product: 11,
  minus: 12,
  power: 13,
};

const listOf = ($, item) => seq(item, repeat(seq($._separator, item)), optional($._separator));

/** What `.` and `[ ]` may stand behind. */
const postfix = ($) => [
  $.call,
  $.field,
  $.index,
  $.number,
  $.string,
  $.identifier,
  $.incoming,
  $.group,
  $.list,
  $.comprehension,
  $.block,
  $.match,
  $.for,
  $.repeat,
];

module.exports = grammar({
  name: "nasdsl",

  externals: ($) => [$._line_break, $._error_sentinel],
  extras: ($) => [/[ \t\r\n\uFEFF]/, $.comment],
  word: ($) => $.identifier,
  supertypes: ($) => [$._expression],
  inline: ($) => [$._separator],

  rules: {
    source_file: ($) => seq(optional($._separator), optional(listOf($, $._top))),

    _separator: ($) => choice($._line_break, ","),

    _top: ($) => choice($.use, $.space, $.derived_space, $._definition),
    _definition: ($) => choice($.let, $.operator, $.fusion),

    use: ($) => seq("use", field("path", $.string), optional($.names)),
    names: ($) => seq("{", listOf($, $.identifier), "}"),

    space: ($) => seq("space", field("name", $.identifier), field("body", $.space_body)),
    space_body: ($) => seq("{", optional(listOf($, $._declaration)), "}"),
    _declaration: ($) => choice($._definition, $.param, $.input, $.require, $.section),

    derived_space: ($) =>
      seq(
        "space",
        field("name", $.identifier),
        "=",
        field("base", $.identifier),
        "with",
        field("changes", $.changes),
      ),
    changes: ($) => seq("{", optional(listOf($, choice($.pin, $.input, $.require, $.section))), "}"),
    pin: ($) =>
      seq(field("place", choice($._place, alias("input", $.identifier), "else")), ":", field("value", $._expression)),
    _place: ($) =>
      choice(
        $.identifier,
        alias($.list_place, $.list),
        alias($.field_place, $.field),
        alias($.index_place, $.index),
      ),
    list_place: ($) => seq("[", $._expression, "]"),
    field_place: ($) => seq(field("base", $._place), ".", field("name", $.identifier)),
    index_place: ($) => seq(field("base", $._place), "[", field("index", $._expression), "]"),

    param: ($) =>
      seq("param", field("name", $.identifier), choice("=", "in"), field("value", $._expression)),
    input: ($) => seq("input", field("size", $._expression)),
    require: ($) => seq("require", field("condition", $._expression)),
    let: ($) =>
      seq("let", field("name", $.identifier), optional($.formals), "=", field("value", $._expression)),
    operator: ($) =>
      seq(
        "operator",
        field("name", $.identifier),
        $.formals,
        choice(seq("=", field("body", $._expression)), field("body", $.block)),
      ),
    fusion: ($) =>
      seq("fusion", field("name", $.identifier), optional($.formals), field("body", $.block)),
    section: ($) =>
      seq(field("kind", $.identifier), optional(field("name", $.identifier)), field("body", $.block)),

    formals: ($) => seq("(", optional(listOf($, $.formal)), ")"),
    formal: ($) =>
      seq(
        field("name", $.identifier),
        optional(seq("in", field("allowed", $._expression))),
        optional(seq("=", field("default", $._expression))),
      ),

    block: ($) => seq("{", optional(listOf($, $._item)), "}"),
    _item: ($) => choice($.let, $.require, $.named, $._expression),
    named: ($) =>
      seq(field("key", choice($._expression, "else", $._keyword_key)), ":", field("value", $._expression)),
    // Keywords that begin a path: `repeat: { depth: 2 }`, `for[0].kernel: 3`.
    _keyword_key: ($) => choice(alias(choice("repeat", "for", "input"), $.identifier), alias($.keyword_path, $.field)),
    keyword_path: ($) =>
      seq(
        alias(choice("repeat", "for", "input"), $.identifier),
        choice(seq(".", $.identifier), prec(1, seq("[", $._expression, "]"))),
        repeat(choice(seq(".", $.identifier), seq("[", $._expression, "]"))),
      ),

    _expression: ($) =>
      choice(
        $.pipe,
        $.conditional,
        $.binary,
        $.unary,
        $.range,
        $.size,
        ...postfix($),
      ),

    pipe: ($) => prec.left(PREC.pipe, seq($._expression, "->", $._expression)),
    conditional: ($) =>
      prec.right(
        PREC.if,
        seq(
          field("then", $._expression),
          "if",
          field("condition", $._expression),
          "else",
          field("otherwise", $._expression),
        ),
      ),
    binary: ($) => choice(...binary($._expression, $._expression)),
    unary: ($) =>
      choice(
        prec(PREC.not, seq("not", $._expression)),
        prec(PREC.minus, seq("-", $._expression)),
      ),
    range: ($) => prec.left(PREC.range, seq($._expression, choice("..", "step"), $._expression)),
    size: ($) => prec.left(PREC.size, seq($._expression, "x", $._expression)),

    call: ($) =>
      prec.right(
        seq(
          field("function", $.identifier),
          choice(seq(field("arguments", $.arguments), optional(field("body", $.block))), field("body", $.block)),
        ),
      ),
    arguments: ($) => seq("(", optional(listOf($, $._item)), ")"),
    field: ($) => seq(field("base", $._postfix), ".", field("name", $.identifier)),
    index: ($) => seq(field("base", $._postfix), "[", field("index", $._expression), "]"),
    _postfix: ($) =>
      choice(...postfix($)),

    group: ($) => seq("(", $._expression, optional($._separator), ")"),
    list: ($) => seq("[", optional(listOf($, $._item)), "]"),
    comprehension: ($) =>
      seq("[", "for", $.bind, repeat(seq($._separator, $.bind)), ":", field("body", $._expression), optional($._separator), "]"),
    match: ($) => seq("match", field("head", $._head), field("cases", $.block)),
    for: ($) => seq("for", $.bind, field("body", $.block)),
    repeat: ($) => seq("repeat", field("count", $._head), field("body", $.block)),
    bind: ($) => seq(field("name", $.identifier), "in", field("source", $._head)),

    // What stands between a keyword and its block has none of its own.
    _head: ($) =>
      choice(
        $._simple,
        alias($.head_binary, $.binary),
        alias($.head_unary, $.unary),
        alias($.head_range, $.range),
      ),
    head_binary: ($) =>
      choice(
        prec.left(PREC.sum, seq($._head, choice("+", "-"), $._head)),
        prec.left(PREC.product, seq($._head, choice("*", "/"), $._head)),
      ),
    head_unary: ($) => prec(PREC.minus, seq("-", $._simple)),
    head_range: ($) => prec.left(PREC.range, seq($._head, choice("..", "step"), $._head)),
    _simple: ($) =>
      choice(
        $.identifier,
        alias($.plain_number, $.number),
        $.list,
        $.comprehension,
        $.group,
        alias($.head_call, $.call),
        alias($.head_field, $.field),
        alias($.head_index, $.index),
      ),
    head_call: ($) => seq(field("function", $.identifier), field("arguments", $.arguments)),
    head_field: ($) => seq(field("base", $._simple), ".", field("name", $.identifier)),
    head_index: ($) => seq(field("base", $._simple), "[", field("index", $._expression), "]"),
    plain_number: ($) => $._digits,

    number: ($) => prec.right(seq($._digits, optional(field("unit", alias($.identifier, $.unit))))),
    _digits: () => /[0-9]+(\.[0-9]+)?([eE][+-]?[0-9]+)?[KMG]?/,
    string: () => /"[^"\r\n]*"/,
    incoming: () => "in",
    identifier: () => /[A-Za-z_][A-Za-z_0-9]*/,
    comment: () => /#[^\r\n]*/,
  },
});

function binary(left, right) {
  const table = [
    [PREC.implies, "implies"],
    [PREC.or, "or"],
    [PREC.and, "and"],
    [PREC.compare, choice("==", "!=", "<=", ">=", "<", ">", "in")],
    [PREC.sum, choice("+", "-")],
    [PREC.product, choice("*", "/")],
  ];
  const rules = table.map(([level, sign]) =>
    prec.left(level, seq(field("left", left), field("operator", sign), field("right", right))),
  );
  rules.push(
    prec.right(PREC.power, seq(field("left", left), field("operator", "^"), field("right", right))),
  );
  return rules;
}
