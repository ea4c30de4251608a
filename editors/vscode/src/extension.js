// Starts `nasdsl lsp` and hands it every .space file.

const path = require("node:path");
const vscode = require("vscode");
const { LanguageClient, TransportKind } = require("vscode-languageclient/node");

let client;

function command() {
  const [program, ...args] = vscode.workspace.getConfiguration("nasdsl").get("command");
  const folder = vscode.workspace.workspaceFolders?.[0]?.uri.fsPath;
  // A name alone is looked for where programs lie; a relative path is one of the workspace.
  const relative = /[/\\]/.test(program) && !path.isAbsolute(program) && folder;
  return { command: relative ? path.join(folder, program) : program, args, options: { cwd: folder } };
}

async function start() {
  const run = { ...command(), transport: TransportKind.stdio };
  client = new LanguageClient("nasdsl", "nasdsl", run, {
    documentSelector: [{ language: "space" }],
  });
  try {
    await client.start();
  } catch (problem) {
    const setting = "Open the setting";
    const chosen = await vscode.window.showErrorMessage(
      `The language server of nasdsl does not start: ${problem.message}. ` +
        'Install it with `pip install "nasdsl[editor]"`, or name it in the setting nasdsl.command.',
      setting,
    );
    if (chosen === setting) {
      await vscode.commands.executeCommand("workbench.action.openSettings", "nasdsl.command");
    }
  }
}

async function stop() {
  const old = client;
  client = undefined;
  if (old?.needsStop()) await old.stop();
}

async function restart() {
  await stop();
  await start();
}

exports.activate = async (context) => {
  context.subscriptions.push(vscode.commands.registerCommand("nasdsl.restart", restart));
  context.subscriptions.push(
    vscode.workspace.onDidChangeConfiguration((change) => {
      if (change.affectsConfiguration("nasdsl.command")) return restart();
    }),
  );
  await start();
};

exports.deactivate = stop;
