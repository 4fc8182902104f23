/**
 * A page of the documentation as a list of steps, in the order in which a reader follows them.
 *
 * The words after the language of a fenced block say what to do with it. They are not shown to a reader:
 *
 * | block                          | what is done                                                               |
 * | ------------------------------ | -------------------------------------------------------------------------- |
 * | `sh machine=a`                 | type the commands, and wait for each to end with 0; lines that do not begin with `$ ` are output, if any line does |
 * | `sh machine=a exits=1`         | the last command ends with 1                                               |
 * | `sh machine=a stays`           | the last command goes on: wait only for the output that is shown           |
 * | `sh machine=a online`          | run them outside of the namespace, beside the stand-in for JSR             |
 * | `text machine=a types`         | type the lines into the program that runs                                  |
 * | `text machine=a`               | wait for the lines                                                         |
 * | `ts machine=a file=hello.ts`   | write the file, in any language                                            |
 *
 * A machine has one terminal, or more with `terminal=2`; `machine=a,b` stands for both. Comments do or check what the text
 * around them says in words:
 *
 * ```html
 * <!-- test: press C-c machine=a -->
 * <!-- test: ends machine=a,b -->
 * <!-- test: sees machine=a
 * a line
 * -->
 * <!-- test: run machine=a
 * mkdir photos
 * -->
 * <!-- test: starts machine=a terminal=web
 * a command that goes on
 * -->
 * <!-- test: skip the test has no way to the internet -->
 * ```
 *
 * `ends` waits until the command of the terminal has ended with 0, `run` runs a script aside, which has to succeed, and `starts` types a command
 * that goes on. `skip`
 * stands before a block that is not followed.
 *
 * @module
 */

/** Where a step happens. */
export interface Place {
  readonly machine: string;
  readonly terminal: string;
}

/** A command, and the lines of its output that are shown. */
export interface TypedCommand {
  readonly command: string;
  readonly output: readonly string[];
}

/** One thing that a reader does or sees. */
export type Step =
  & { readonly line: number }
  & (
    | {
      readonly kind: "commands";
      readonly place: Place;
      readonly commands: readonly TypedCommand[];
      readonly stays: boolean;
      readonly exits: number;
      readonly isOnline: boolean;
    }
    | { readonly kind: "type" | "show"; readonly place: Place; readonly lines: readonly string[] }
    | {
      readonly kind: "write";
      readonly machine: string;
      readonly path: string;
      readonly text: string;
    }
    | { readonly kind: "press"; readonly place: Place; readonly key: string }
    | { readonly kind: "end"; readonly place: Place }
    | { readonly kind: "run"; readonly machine: string; readonly script: string }
    | { readonly kind: "skip"; readonly reason: string }
  );

/**
 * Reads the steps of a page.
 *
 * @throws {Error} if a block or a comment is not of a known kind
 */
export function readSteps(markdown: string): Step[] {
  const steps: Step[] = [];
  let skip: string | undefined;
  for (const { index, groups } of markdown.matchAll(BLOCKS)) {
    const { info, body, note } = groups!;
    const line = markdown.slice(0, index).split("\n").length;
    const fail = (what: string) => new Error(`Cannot follow line ${line}: ${what}`);
    if (skip !== undefined && note === undefined) {
      steps.push({ kind: "skip", reason: skip, line });
      skip = undefined;
      continue;
    }
    if (skip !== undefined) throw fail("a block has to follow what says to skip it");
    const found = note === undefined ? readBlock(info!, body!, fail) : readNote(note, fail);
    for (const each of found) {
      if (note !== undefined && each.kind === "skip") skip = each.reason;
      else steps.push({ ...each, line });
    }
  }
  if (skip !== undefined) throw new Error("Cannot follow the page: it ends with something to skip");
  return steps;
}

type Unplaced<T> = T extends unknown ? Omit<T, "line"> : never;
type Fail = (what: string) => Error;

function readBlock(info: string, body: string, fail: Fail): Unplaced<Step>[] {
  const [language = "", ...words] = info.trim().split(/\s+/);
  const { machine: machines, terminal = "1", file, exits = "0", ...flags } = readWords(words);
  if (machines === undefined) throw fail(`${JSON.stringify(info)} names no machine`);
  const known = language === "sh" ? ["stays", "online"] : ["types"];
  const unknown = Object.keys(flags).find((each) => !known.includes(each));
  if (unknown !== undefined) throw fail(`${unknown} is unknown in a block of ${language}`);
  const lines = body.trimEnd().split("\n");
  return machines.split(",").map((machine) => {
    const place = { machine, terminal };
    if (file !== undefined) return { kind: "write", machine, path: file, text: body };
    if (language === "sh") {
      return {
        ...{ kind: "commands", place, commands: readCommands(lines, fail) },
        ...{ stays: "stays" in flags, isOnline: "online" in flags, exits: Number(exits) },
      };
    }
    if (language === "text") return { kind: "types" in flags ? "type" : "show", place, lines };
    throw fail(`a block of ${language} without file=`);
  });
}

function readCommands(lines: readonly string[], fail: Fail): TypedCommand[] {
  if (!lines.some((line) => line.startsWith(PROMPT))) {
    return lines.map((command) => ({ command, output: [] }));
  }
  const commands: { command: string; output: string[] }[] = [];
  for (const line of lines) {
    if (line.startsWith(PROMPT)) {
      commands.push({ command: line.slice(PROMPT.length), output: [] });
    } else if (commands.length === 0) throw fail("output before the first command");
    else commands.at(-1)!.output.push(line);
  }
  return commands;
}

function readNote(note: string, fail: Fail): Unplaced<Step>[] {
  const [, verb, rest = "", body = ""] = /^(\w+) ?(.*)\n?([^]*)$/.exec(note.trim()) ?? [];
  if (verb === "skip" && rest !== "") {
    return [{ kind: "skip", reason: `${rest} ${body}`.replaceAll(/\s+/g, " ").trim() }];
  }
  const words = rest.split(" ");
  const key = verb === "press" ? words.shift()! : "";
  const { machine: machines, terminal = "1" } = readWords(words);
  if (machines === undefined) throw fail(`the note ${JSON.stringify(note)} names no machine`);
  return machines.split(",").map((machine) => {
    const place = { machine, terminal };
    switch (verb) {
      case "press":
        return { kind: "press", place, key };
      case "ends":
        return { kind: "end", place };
      case "sees":
        return { kind: "show", place, lines: body.trimEnd().split("\n") };
      case "run":
        return { kind: "run", machine, script: body };
      case "starts":
        return {
          ...{ kind: "commands", place, commands: [{ command: body.trim(), output: [] }] },
          ...{ stays: true, isOnline: false, exits: 0 },
        };
    }
    throw fail(`the note ${JSON.stringify(note)} is of an unknown kind`);
  });
}

function readWords(words: readonly string[]): Record<string, string> {
  return Object.fromEntries(words.map((word) => {
    const [, name, value = ""] = /^([^=]*)(?:=(.*))?$/.exec(word)!;
    return [name, value];
  }));
}

const PROMPT = "$ ";
const BLOCKS = /^ *```(?<info>[^\n`]*)\n(?<body>[^]*?)^ *```$|^<!-- test: (?<note>[^]*?)-->$/gm;
