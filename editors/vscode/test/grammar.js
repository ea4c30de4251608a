// Colours files by the grammar as VS Code does, and prints the pieces: for each file a list of [start, end, scope].
// The arguments are the files; the tests of nasdsl compare the pieces with the compiler's own tokens.

const fs = require("node:fs");
const path = require("node:path");
const oniguruma = require("vscode-oniguruma");
const { INITIAL, Registry, parseRawGrammar } = require("vscode-textmate");

const FILE = path.join(__dirname, "..", "syntaxes", "space.tmLanguage.json");

async function main() {
  const wasm = fs.readFileSync(require.resolve("vscode-oniguruma/release/onig.wasm")).buffer;
  await oniguruma.loadWASM(wasm);
  const registry = new Registry({
    onigLib: Promise.resolve({
      createOnigScanner: (patterns) => new oniguruma.OnigScanner(patterns),
      createOnigString: (text) => new oniguruma.OnigString(text),
    }),
    loadGrammar: async () => parseRawGrammar(fs.readFileSync(FILE, "utf8"), FILE),
  });
  const grammar = await registry.loadGrammar("source.space");
  const out = {};
  for (const file of process.argv.slice(2)) {
    const text = fs.readFileSync(file, "utf8");
    const pieces = [];
    let stack = INITIAL;
    let start = 0;
    for (const line of text.split("\n")) {
      const found = grammar.tokenizeLine(line, stack);
      stack = found.ruleStack;
      for (const token of found.tokens) {
        const scope = token.scopes.at(-1);
        const end = Math.min(token.endIndex, line.length);
        if (scope !== "source.space" && end > token.startIndex) pieces.push([start + token.startIndex, start + end, scope]);
      }
      start += line.length + 1;
    }
    out[file] = pieces;
  }
  process.stdout.write(JSON.stringify(out));
}

main().catch((problem) => {
  console.error(problem);
  process.exit(1);
});
