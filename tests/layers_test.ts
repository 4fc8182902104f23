/**
 * The layers of the library, as tables and as tests. A folder imports from those that its row names; within a folder
 * the name of a file says what it may do: messages and engines are pure, the rest uses the network through its seam.
 *
 * @module
 */

import { assertEquals } from "@std/assert";

/** What the files of each folder of `lib` may import, besides their own folder; folders below it belong to it. */
const FOLDERS: Readonly<Record<string, readonly string[]>> = {
  base: [],
  net: ["base"],
  udp: ["base", "net"],
  stun: ["base", "net"],
  noise: ["base", "net"],
  signal: ["base", "net"],
  turn: ["base", "net", "stun"],
  nat: ["base", "net", "stun"],
  portmap: ["base", "net", "stun"],
  session: ["base", "net", "signal"],
  punch: ["base", "net", "udp", "stun", "nat", "signal"],
  transfer: ["base", "net"],
  code: ["base", "net", "signal"],
  serve: ["base", "net", "stun", "signal"],
  peer: [
    ...["base", "net", "udp", "stun", "noise", "signal", "turn", "nat", "portmap", "session"],
    ...["punch", "code"],
  ],
  doctor: ["base", "net", "stun", "signal", "nat", "portmap", "punch", "peer"],
  cli: [
    ...["base", "net", "stun", "noise", "signal", "turn", "nat", "portmap", "punch", "peer"],
    ...["transfer", "code", "serve", "doctor"],
  ],
};

/** What a file may do, by its name; the first row that fits decides. */
const RULES: readonly Rule[] = [
  {
    name: "system",
    what: "the platform's sockets and files behind their seams",
    files: /^lib\/net\/system(?:\.ts|\/)|\/(?:key_file|ticket_file|system_files)\.ts$/,
    forbiddenNames: /\bfetch\b/g,
    packages: /^node:/,
  },
  {
    name: "message",
    what: "wire formats, encodeX(x) and decodeX(bytes): no clock, no randomness, no I/O",
    files:
      /(?:\/|_)(?:message|codec|frame|packet|attributes|attribute_tables|integrity|credentials)\.ts$/,
    forbiddenNames: /(?!)/g,
    packages: /^$/,
    isPure: true,
  },
  {
    name: "engine",
    what: "observations in, the next step or a verdict out: no clock, no randomness, no I/O",
    files: /(?:_engine|_plan|\/verdict|\/behavior|\/plan_types|\/limits)\.ts$/,
    forbiddenNames: /(?!)/g,
    packages: /^$/,
    isPure: true,
  },
  {
    name: "face",
    what: "entry points, and the command line: argv in, text or JSON out",
    files: /^(?:mod|cli|punchline)\.ts$|\/mod\.ts$|^lib\/cli\//,
    forbiddenNames:
      /\bDeno\b(?!\.(?:args|build|cwd|execPath|exit|exitCode|noColor|stdin|stdout|stderr|consoleSize|addSignalListener|removeSignalListener|Signal|errors)\b)/g,
    packages: /^@std\/(?:async|cli)\//,
  },
  {
    name: "client",
    what: "one protocol each: the network through its seam, the clock and randomness",
    files: /^lib\//,
    forbiddenNames: /\b(?:Deno|console|fetch)\b/g,
    packages: /^@std\/async\//,
  },
];

/** The files that know the system's network, as the default of `options.network`: what a user calls. */
const JOBS = [
  "lib/nat/report.ts",
  "lib/peer/context.ts",
  "lib/peer/forward.ts",
  "lib/portmap/admin.ts",
  "lib/portmap/map_port.ts",
  "lib/punch/punch.ts",
  "lib/signal/rendezvous/channel.ts",
  "lib/stun/stun_binding.ts",
  "lib/turn/open_relay.ts",
];

Deno.test("a folder imports only from the folders above it", () => {
  const astray = FILES.flatMap(({ path, imports }) => {
    const folder = folderOf(path);
    if (folder === undefined) return [];
    const allowed = [folder, ...FOLDERS[folder] ?? []];
    return imports.filter((imported) => isLocal(imported) && imported.startsWith("lib/"))
      .filter((imported) => !allowed.includes(folderOf(imported)!))
      .map((imported) => `${path} imports ${imported}`);
  });
  assertEquals(astray, []);
});

Deno.test("every folder of the library has a row, and the rows go upwards only", () => {
  const folders = new Set(
    FILES.map(({ path }) => folderOf(path)).filter((each) => each !== undefined),
  );
  assertEquals([...folders].sort(), Object.keys(FOLDERS).sort());
  const order = Object.keys(FOLDERS);
  const down = Object.entries(FOLDERS).flatMap(([folder, above]) =>
    above.filter((each) => order.indexOf(each) >= order.indexOf(folder))
      .map((each) => `${folder} names ${each}`)
  );
  assertEquals(down, []);
});

Deno.test("shipped code imports nothing from outside of lib", () => {
  const outside = FILES.flatMap(({ path, imports }) =>
    imports.filter((imported) => isLocal(imported) && !imported.startsWith("lib/"))
      .map((imported) => `${path} imports ${imported}`)
  );
  assertEquals(outside, []);
});

Deno.test("messages import messages, and engines messages and engines, or words", () => {
  const allowed: Readonly<Record<string, readonly string[]>> = {
    message: ["message"],
    engine: ["message", "engine"],
  };
  const astray = FILES.flatMap(({ path, imports }) => {
    const kinds = allowed[ruleOf(path).name];
    if (kinds === undefined) return [];
    return imports.filter((imported) => isLocal(imported) && !isWord(imported))
      .filter((imported) => !kinds.includes(ruleOf(imported).name) && !isPure(imported))
      .map((imported) => `${path} imports ${imported}`);
  });
  assertEquals(astray, []);
});

Deno.test("a file touches only what its rule allows", () => {
  const touches = FILES.flatMap(({ path, code, imports }) => {
    const rule = ruleOf(path);
    const names = code.match(rule.isPure ? IMPURE : rule.forbiddenNames) ?? [];
    const packages = imports.filter((name) =>
      !isLocal(name) && !rule.packages.test(name) && !isException(path, name)
    );
    return [...names, ...packages].map((name) => `${path} (${rule.name}) touches ${name}`);
  });
  assertEquals(touches, []);
});

Deno.test("only the entry points of a job know the system's network", () => {
  const knowing = FILES.filter(({ path, imports }) =>
    imports.includes("lib/net/system.ts") && ruleOf(path).name !== "face"
  );
  assertEquals(knowing.map(({ path }) => path), JOBS);
});

Deno.test("no file imports itself by way of others", () => {
  const importsOf = new Map(FILES.map(({ path, imports }) => [path, imports.filter(isLocal)]));
  const done = new Set<string>();
  const cycles: string[] = [];
  const visit = (path: string, trail: string[]) => {
    if (trail.includes(path)) cycles.push([...trail.slice(trail.indexOf(path)), path].join(" > "));
    if (done.has(path) || trail.includes(path)) return;
    for (const imported of importsOf.get(path) ?? []) visit(imported, [...trail, path]);
    done.add(path);
  };
  for (const path of importsOf.keys()) visit(path, []);
  assertEquals(cycles, []);
});

Deno.test("no source file looks like a test to deno test", () => {
  const tests = FILES.filter(({ path }) => /(?:^|[/_.])test\.ts$|\/test_\w+\.ts$/.test(path));
  assertEquals(tests.map(({ path }) => path), []);
});

interface Rule {
  readonly name: string;
  readonly what: string;
  readonly files: RegExp;
  readonly forbiddenNames: RegExp;
  /** The packages that may be imported. */
  readonly packages: RegExp;
  readonly isPure?: true;
}

/** What pure code may not name. */
const IMPURE =
  /\b(?:Deno|Date|performance|setTimeout|setInterval|console|fetch|Math\.random|crypto\.getRandomValues|crypto\.randomUUID)\b/g;

/**
 * Hashes and ciphers come from `node:crypto`: the Web's are asynchronous, and know no MD5 and no ChaCha20. Small
 * arrays come from `node:buffer`, which has a pool of them. `sax` reads XML, and `uqr` draws QR codes; both do nothing
 * else, as does `@noble/curves`, which has the curve of codes. The version of the program stands in `deno.json`.
 */
function isException(path: string, imported: string): boolean {
  return path === "lib/base/crypto.ts" && /^node:(?:buffer|crypto)$/.test(imported) ||
    path === "lib/base/bytes.ts" && imported === "node:buffer" ||
    path === "lib/code/pake.ts" && imported === "@noble/curves/ed25519.js" ||
    path === "lib/portmap/upnp/xml.ts" && imported === "sax" ||
    path === "lib/cli/version.ts" && imported === "deno.json" ||
    path === "lib/cli/qr.ts" && imported === "uqr";
}

function ruleOf(path: string): Rule {
  return RULES.find(({ files }) => files.test(path))!;
}

/** Words that everything may use: the toolbox and addresses. */
function isWord(path: string): boolean {
  return path.startsWith("lib/base/") || /^lib\/net\/(?:address|network|deno_conn)\.ts$/.test(path);
}

/** Whether a file does nothing that pure code may not, whatever it is called. */
function isPure(path: string): boolean {
  const file = FILES.find((each) => each.path === path);
  if (file === undefined || file.code.match(IMPURE) !== null) return false;
  return file.imports.every((imported) =>
    isWord(imported) || isLocal(imported) && isPure(imported)
  );
}

function folderOf(path: string): string | undefined {
  return /^lib\/([^/]+)\//.exec(path)?.[1];
}

/** Whether an import is a file of the repository, by its path from the root. */
function isLocal(imported: string): boolean {
  return imported.endsWith(".ts");
}

interface SourceFile {
  /** From the root of the repository. */
  readonly path: string;
  /** Packages, and files by their paths. */
  readonly imports: readonly string[];
  /** Without comments. */
  readonly code: string;
}

function readSource(path: string): SourceFile {
  const text = Deno.readTextFileSync(new URL(path, ROOT));
  const code = text.replaceAll(/\/\*[^]*?\*\/|(?<!:)\/\/.*$/gm, "");
  const statements = code.matchAll(
    /^(?:import|export)\b[^;"]*?\bfrom\s+"([^"]+)"|^import\s+"([^"]+)"|\bimport\("([^"]+)"\)/gm,
  );
  const imports = Array.from(statements, ([, from, effect, lazy]) => (from ?? effect ?? lazy)!)
    .map((name) => name.startsWith(".") ? pathOf(new URL(name, new URL(path, ROOT))) : name);
  return { path, imports: [...new Set(imports)], code };
}

function listSources(folder: string): string[] {
  return [...Deno.readDirSync(new URL(folder, ROOT))].flatMap(({ name, isDirectory }) => {
    const path = `${folder}${name}`;
    return isDirectory ? listSources(`${path}/`) : [path];
  });
}

function listEntryPoints(): string[] {
  return Array.from(Deno.readDirSync(ROOT), ({ name }) => name);
}

function pathOf(url: URL): string {
  return url.href.slice(ROOT.href.length);
}

const ROOT = new URL("../", import.meta.url);

const FILES = [...listEntryPoints(), ...listSources("lib/")]
  .filter((path) => path.endsWith(".ts")).sort().map(readSource);
