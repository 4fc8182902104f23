/**
 * Sends a whole tree from one process to another, and compares it with the tools of the system.
 *
 * @module
 */

import { FileProgram, freePort } from "./file_programs.ts";

/** What came of it. */
export interface TreeReport {
  readonly files: number;
  readonly entries: number;
  readonly bytes: number;
  /** What `diff -r --no-dereference` prints. */
  readonly differences: string;
  /** Whether kinds, executable bits and targets of links are equal. */
  readonly isEqual: boolean;
  readonly refused: unknown;
  readonly skipped: unknown;
  readonly renamed: unknown;
  readonly elapsedMs: number;
  /** The most memory that each side has had. */
  readonly senderPeakBytes: number;
  readonly receiverPeakBytes: number;
}

/** Sends a folder into another one, which is empty. */
export async function runTree(source: string, inbox: string): Promise<TreeReport> {
  const port = freePort();
  await using sender = await FileProgram.sender(port, [source]);
  await using receiver = FileProgram.receiver(port, inbox, "tree");
  const [received, sent] = await Promise.all([
    receiver.until("finished"),
    sender.until("finished"),
  ]);
  const name = source.slice(source.lastIndexOf("/") + 1);
  const [here, there] = [await listing(source), await listing(`${inbox}/${name}`)];
  const differences = await output("diff", [
    "-r",
    "--no-dereference",
    source,
    `${inbox}/${name}`,
  ]);
  return {
    files: Number(received.files),
    entries: here.split("\0").length - 1,
    bytes: Number(received.bytes),
    differences,
    isEqual: here === there,
    refused: received.refused,
    skipped: received.skipped,
    renamed: received.renamed,
    elapsedMs: Math.round(Number(received.elapsedMs)),
    senderPeakBytes: Number(sent.peakBytes),
    receiverPeakBytes: Number(received.peakBytes),
  };
}

/**
 * Makes a tree with everything in it that a POSIX system can hold and others cannot.
 *
 * @param entries how many files and folders, about
 */
export async function makeTree(path: string, entries: number): Promise<void> {
  await Deno.mkdir(`${path}/odd/Album Vol./empty`, { recursive: true });
  await Deno.mkdir(`${path}/odd/back\\slash`);
  for (const name of ODD_NAMES) await Deno.writeTextFile(`${path}/odd/${name}`, name);
  await Deno.writeTextFile(`${path}/odd/run.sh`, "#!/bin/sh\n", { mode: 0o755 });
  let deep = `${path}/deep`;
  for (let depth = 0; depth < 100; depth++) deep += "/d";
  await Deno.mkdir(deep, { recursive: true });
  await Deno.writeTextFile(`${deep}/file`, "deep");
  await Deno.mkdir(`${path}/links/sub`, { recursive: true });
  const links: [string, string][] = [
    ["links/to-file", "../odd/aux.c"],
    ["links/to-folder", "../odd"],
    ["links/sub/up", "../../odd/Album Vol."],
    ["links/dangling", "nowhere"],
    ["links/itself", "itself"],
    ["links/sub/roundabout", "../sub/../../odd/T.h"],
    ["links/.hidden", "to-file"],
  ];
  for (const [link, target] of links) await Deno.symlink(target, `${path}/${link}`);
  const perFolder = 500;
  for (let folder = 0; folder * (perFolder + 1) < entries; folder++) {
    const many = `${path}/many/${folder}`;
    await Deno.mkdir(many, { recursive: true });
    await Promise.all(
      Array.from({ length: perFolder }, (_, index) =>
        Deno.writeTextFile(
          `${many}/a file with a name of ordinary length ${index}.txt`,
          index % 10 === 0 ? "" : `${folder} ${index}`,
        )),
    );
  }
}

const ODD_NAMES: readonly string[] = [
  ...["aux.c", "CON", "nul.txt", "T.h", "t.h", "a:b", "x\\y", "trailing dot.", "trailing space "],
  ...["question?", 'quote"', "star*", "line\nbreak", "escape\u001b[2J", "\u00e9", "e\u0301"],
  ...["x".repeat(255), "é".repeat(127), "-rf", "~", "$HOME", ".hidden", "...", "..dots"],
  ...["x.punchline-par", "straße", "STRASSE", "\u202etxt.exe", "漢字", "👍🏽"],
];

/** Kind, executable bits, target and path of everything in a folder. */
async function listing(folder: string): Promise<string> {
  const found = await output("find", [folder, "-mindepth", "1", "-printf", "%y %m %l %P\\0"]);
  const isExecutable = (mode: string) => (parseInt(mode, 8) & 0o111) !== 0;
  return found.split("\0").map((line) => {
    const match = /^(\S) (\d+) (.*)$/s.exec(line);
    if (match === null) return line;
    const [, kind, mode, rest] = match;
    return kind === "f" ? `f ${isExecutable(mode!)} ${rest}` : `${kind} ${rest}`;
  }).sort().join("\0");
}

async function output(program: string, args: readonly string[]): Promise<string> {
  const { stdout, stderr } = await new Deno.Command(program, { args: [...args] }).output();
  const decoder = new TextDecoder();
  return decoder.decode(stdout) + decoder.decode(stderr);
}
