/**
 * Asks whether to receive an offer, and says what it would do here.
 *
 * @module
 */

import {
  type ExistingPolicy,
  type IncomingOffer,
  type OfferDecision,
  printable,
} from "../transfer/mod.ts";
import type { CliIo, Failure } from "./io.ts";
import { type Answer, ask } from "./question.ts";
import type { StdinLines } from "./stdin_lines.ts";
import { formatBytes, formatFiles } from "./transfer_progress.ts";

/** What the options allow in advance. */
export interface ConsentOptions {
  /** Receive without asking. */
  readonly yes: boolean;
  /** Into existing folders of the same name, too. */
  readonly merge: boolean;
  /** Hidden files and programs, too, into folders that existed before. */
  readonly allowHidden: boolean;
  /** What happens to existing files that differ. Default: `"refuse"`. */
  readonly existing?: ExistingPolicy;
}

/** Decides about offers, by the options or by asking. */
export class Consent {
  readonly #options: ConsentOptions;
  readonly #io: CliIo;
  readonly #stdin: StdinLines;
  /** The absolute path of the target folder, and the sender's ID. */
  readonly #place: () => { readonly folder: string; readonly sender: string | undefined };
  #refusal: Failure | undefined;

  constructor(
    options: ConsentOptions,
    { io, stdin }: { readonly io: CliIo; readonly stdin: StdinLines },
    place: () => { readonly folder: string; readonly sender: string | undefined },
  ) {
    this.#options = options;
    this.#io = io;
    this.#stdin = stdin;
    this.#place = place;
  }

  /** Why the offer was declined, with the option that would have allowed it; `undefined` if it was not. */
  get refusal(): Failure | undefined {
    return this.#refusal;
  }

  /**
   * Decides about an offer.
   *
   * @param print prints a line for people
   * @param signal ends the question
   */
  async decide(
    offer: IncomingOffer,
    print: (line: string) => void,
    signal: AbortSignal,
  ): Promise<OfferDecision> {
    const { yes, merge, allowHidden, existing = "refuse" } = this.#options;
    for (const line of factsOf(offer, existing)) print(line);
    if (offer.needAllowHidden.length > 0 && !allowHidden) {
      const paths = offer.needAllowHidden.map(({ path }) => path);
      return this.#decline(
        `${
          listNames(paths)
        } would put hidden files or programs into a folder that is there already`,
        offer,
      );
    }
    if (yes) {
      return merge || offer.existingFolders.length === 0
        ? { accept: true, merge, allowHidden }
        : this.#decline(`${listNames(offer.existingFolders)} is there already`, offer);
    }
    const answer = await this.#ask(offer, signal);
    if (answer === "no") {
      this.#refusal = {
        message: "Declined: nothing was written",
        remedy: "Use --yes to receive without a question",
      };
      return { accept: false };
    }
    if (answer !== "yes") return this.#decline(REASONS[answer], offer);
    return { accept: true, merge: true, allowHidden };
  }

  async #ask(offer: IncomingOffer, signal: AbortSignal): Promise<Answer> {
    const { existingFolders: folders } = offer;
    const { folder, sender } = this.#place();
    const facts = [
      ...sender === undefined ? [] : [`  from      ${sender}`],
      `  into      ${printable(folder)}`,
    ];
    const into = folders.length === 0
      ? ""
      : `, into the existing ${folders.length === 1 ? "folder" : "folders"} ${listNames(folders)}`;
    const again = offer.isChanged ? "The offer has changed. " : "";
    return await ask({ facts, text: `${again}Receive${into}?` }, this.#io, this.#stdin, { signal });
  }

  #decline(why: string, offer: IncomingOffer): OfferDecision {
    const { yes, merge, allowHidden } = this.#options;
    const options = [
      ...yes || this.#io.isInputTerminal ? [] : ["--yes"],
      ...merge || this.#io.isInputTerminal && !yes || offer.existingFolders.length === 0
        ? []
        : ["--merge"],
      ...allowHidden || offer.needAllowHidden.length === 0 ? [] : ["--allow-hidden"],
    ];
    const use = options.length > 0 ? options.join(" ") : "--yes";
    this.#refusal = { message: `Declined: ${why}`, remedy: `Use ${use} to receive` };
    return { accept: false };
  }
}

/** What an offer has, and what is unusual in it. */
function factsOf(offer: IncomingOffer, existing: ExistingPolicy): string[] {
  const { files, bytes, manifest, hidden, executables, needAllowHidden, skipped } = offer;
  const there = offer.isResumed ? [] : offer.existingEntries.map(({ path }) => path);
  const names = new Set(manifest.map(({ path }) => path.split("/")[0]!));
  const risky = new Set(needAllowHidden.map(({ path }) => path));
  const paths = (entries: IncomingOffer["manifest"]) =>
    // what needs an option comes first
    [...entries].sort((a, b) => Number(risky.has(b.path)) - Number(risky.has(a.path)))
      .map(({ path }) => path);
  const links = manifest.filter(({ kind }) => kind === "link");
  const begun = offer.isResumed ? ", begun earlier" : "";
  return [
    `Receiving ${formatFiles(files)}, ${formatBytes(bytes)}: ${listNames([...names])}${begun}`,
    ...fact("hidden", paths(hidden)),
    ...fact("programs", paths(executables)),
    ...fact("links", paths(links)),
    ...fact("existing", there, EXISTING[existing]),
    ...fact("left out", skipped.map(({ path }) => path)),
  ];
}

function fact(name: string, paths: readonly string[], note = ""): string[] {
  return paths.length === 0 ? [] : [`  ${name.padEnd(8)}  ${listNames(paths)}${note}`];
}

/** Lists some names, and how many more there are. */
function listNames(names: readonly string[]): string {
  const shown = names.slice(0, SHOWN_NAMES).map(shorten).join(", ");
  return names.length > SHOWN_NAMES ? `${shown} and ${names.length - SHOWN_NAMES} more` : shown;
}

/** The start and the end of a long name: the end says what kind of file it is. */
function shorten(name: string): string {
  const shown = [...printable(name)];
  if (shown.length <= SHOWN_LENGTH) return shown.join("");
  const half = SHOWN_LENGTH / 2;
  return `${shown.slice(0, half).join("")}…${shown.slice(-half).join("")}`;
}

const REASONS: Readonly<Record<Exclude<Answer, "yes" | "no">, string>> = {
  "timed-out": "there was no answer within 5 minutes",
  "unanswerable": "there is no terminal to ask on",
};

/** What happens to existing files. */
const EXISTING: Readonly<Record<ExistingPolicy, string>> = {
  refuse: "; yours are kept",
  overwrite: "; files of yours that differ are replaced",
  rename: "; the new ones are renamed if they differ",
};

/** Chosen by us: about what fits on a line. */
const SHOWN_NAMES = 5;
const SHOWN_LENGTH = 100;
