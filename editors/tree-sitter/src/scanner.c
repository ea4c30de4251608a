// Where a line break separates: not in front of a line that begins with an infix operator, a comma or a closing bracket.

#include <tree_sitter/parser.h>

enum Token { LINE_BREAK, ERROR_SENTINEL };

void *tree_sitter_nasdsl_external_scanner_create(void) { return NULL; }
void tree_sitter_nasdsl_external_scanner_destroy(void *payload) {}
unsigned tree_sitter_nasdsl_external_scanner_serialize(void *payload, char *buffer) { return 0; }
void tree_sitter_nasdsl_external_scanner_deserialize(void *payload, const char *buffer, unsigned length) {}

static bool is_name(int32_t c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_';
}

// Whether a line goes on with the one before; it begins at the lexer's place.
static bool goes_on(TSLexer *lexer) {
  switch (lexer->lookahead) {
    case '+': case '*': case '/': case '^': case ')': case ']': case '}': case ',': case '<': case '>':
      return true;
    case '-':
      lexer->advance(lexer, false);
      return lexer->lookahead == '>';
    case '=':
    case '!':
      lexer->advance(lexer, false);
      return lexer->lookahead == '=';
    case '.':
      lexer->advance(lexer, false);
      return lexer->lookahead == '.';
    default:
      break;
  }
  static const char *const words[] = {"and", "or", "implies", "if"};
  char word[9];
  unsigned length = 0;
  while (is_name(lexer->lookahead)) {
    if (length == sizeof word - 1) return false;
    word[length++] = (char)lexer->lookahead;
    lexer->advance(lexer, false);
  }
  word[length] = '\0';
  for (unsigned i = 0; i < sizeof words / sizeof *words; i++) {
    const char *one = words[i];
    unsigned k = 0;
    while (one[k] && one[k] == word[k]) k++;
    if (!one[k] && !word[k]) return true;
  }
  return false;
}

bool tree_sitter_nasdsl_external_scanner_scan(void *payload, TSLexer *lexer, const bool *valid_symbols) {
  if (!valid_symbols[LINE_BREAK] || valid_symbols[ERROR_SENTINEL]) return false;
  lexer->mark_end(lexer);
  bool broken = false;
  for (;;) {
    int32_t c = lexer->lookahead;
    if (c == '\n') {
      broken = true;
      lexer->advance(lexer, false);
    } else if (c == ' ' || c == '\t' || c == '\r' || c == 0xFEFF) {
      lexer->advance(lexer, false);
    } else if (c == '#') {
      while (lexer->lookahead != '\n' && !lexer->eof(lexer)) lexer->advance(lexer, false);
    } else {
      break;
    }
  }
  if (!broken || lexer->eof(lexer) || goes_on(lexer)) return false;
  lexer->result_symbol = LINE_BREAK;
  return true;
}
