#!/usr/bin/env node
// deno-lint-ignore-file no-console -- it runs in Node.js, and prints why it cannot start
// Runs the bundled command with Deno, which this package depends on, and with no more permissions than it needs.
"use strict";

const { spawn } = require("node:child_process");
const { existsSync } = require("node:fs");
const { constants } = require("node:os");
const { dirname, join } = require("node:path");

const FLAGS = ["FLAGS"];

const child = spawn(findDeno(), [
  "run",
  ...FLAGS,
  join(__dirname, "lib", "punchline.js"),
  ...process.argv.slice(2),
], {
  stdio: "inherit",
  env: { ...process.env, DENO_NO_UPDATE_CHECK: "1", PUNCHLINE_STARTED_AS: startedAs() },
});
// A terminal sends Ctrl-C to both; TERM and HUP may be for this process alone.
process.on("SIGINT", () => {});
for (const signal of ["SIGTERM", "SIGHUP"]) process.on(signal, () => child.kill(signal));
child.on("error", (error) => {
  console.error(`punchline: Cannot start Deno: ${error.message}`);
  process.exit(1);
});
child.on("exit", (code, signal) => process.exit(code ?? 128 + constants.signals[signal]));

/** npx runs what is not installed, so that is what people have to type again. */
function startedAs() {
  return process.env.npm_command === "exec" ? "npx punchline" : "punchline";
}

/** The program itself: `deno` of the package is a script that would not pass signals on. */
function findDeno() {
  const name = process.platform === "win32" ? "deno.exe" : "deno";
  const path = join(dirname(require.resolve("deno/package.json")), name);
  return existsSync(path) ? path : require("deno/install_api.cjs").runInstall();
}
