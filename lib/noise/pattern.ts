/**
 * The handshake patterns of the Noise Protocol Framework, revision 34, §7.5 and §9: the interactive fundamental
 * ones, with any `psk` modifiers.
 *
 * @module
 */

/** A step of a handshake message, as §5.3 and §9.2 process it. */
export type Token = "e" | "s" | DhToken | "psk";

/** The Diffie-Hellman tokens: the initiator's key first, the responder's second. */
export type DhToken = "ee" | "es" | "se" | "ss";

/** Who sends the first message, and who the second. */
export type Role = "initiator" | "responder";

/** A fundamental pattern's name, such as `"XX"`: how the initiator's static key is known, then the responder's. */
export type FundamentalPattern = keyof typeof PATTERNS;

/** A pattern's name with its `psk` modifiers, as in a protocol name: `"XX"`, `"IKpsk2"`, `"NNpsk0+psk2"`. */
export type PatternName = FundamentalPattern | `${FundamentalPattern}psk${string}`;

/** What the parties know before a handshake, and what they send in it. */
export interface HandshakePattern {
  readonly name: PatternName;
  /** Whose static key the other side knows beforehand, in the order in which they are hashed. */
  readonly preMessages: readonly Role[];
  /** The initiator sends the first one, then they take turns. */
  readonly messages: readonly (readonly Token[])[];
}

/**
 * The pattern of this name.
 *
 * @example
 * ```ts
 * import { parsePattern } from "./pattern.ts";
 * import { assertEquals } from "@std/assert";
 *
 * const { preMessages, messages } = parsePattern("NKpsk2");
 * assertEquals(preMessages, ["responder"]);
 * assertEquals(messages, [["e", "es"], ["e", "ee", "psk"]]);
 * ```
 *
 * @throws {TypeError} if there is none
 */
export function parsePattern(name: PatternName): HandshakePattern {
  const fundamental = name.slice(0, 2);
  if (!isFundamental(fundamental)) throw unknownPattern(name);
  const lines: readonly string[] = PATTERNS[fundamental];
  const end = lines.indexOf("...");
  const messages = lines.slice(end + 1).map(tokensOf);
  for (const position of pskPositions(name)) {
    const message = messages[Math.max(0, position - 1)];
    if (message === undefined) throw unknownPattern(name);
    if (position === 0) message.unshift("psk");
    else message.push("psk");
  }
  const preMessages = lines.slice(0, Math.max(0, end)).map(senderOf);
  return { name, preMessages, messages };
}

/** §9.4: `psk0` goes before the first message's tokens, `pskN` after those of the Nth. */
function pskPositions(name: PatternName): number[] {
  const modifiers = name.slice(2);
  if (modifiers === "") return [];
  const positions = modifiers.split("+").map((modifier) => {
    const [, position] = /^psk(\d)$/.exec(modifier) ?? [];
    if (position === undefined) throw unknownPattern(name);
    return Number(position);
  });
  if (new Set(positions).size < positions.length) throw unknownPattern(name);
  return positions;
}

function isFundamental(name: string): name is FundamentalPattern {
  return Object.hasOwn(PATTERNS, name);
}

function tokensOf(line: string): Token[] {
  return line.slice("-> ".length).split(", ") as Token[];
}

function senderOf(line: string): Role {
  return line.startsWith("->") ? "initiator" : "responder";
}

function unknownPattern(name: string): TypeError {
  return new TypeError(`Cannot use handshake pattern: ${JSON.stringify(name)} is not known`);
}

/** §7.5, written as it is there. */
const PATTERNS = {
  NN: ["-> e", "<- e, ee"],
  NK: ["<- s", "...", "-> e, es", "<- e, ee"],
  NX: ["-> e", "<- e, ee, s, es"],
  KN: ["-> s", "...", "-> e", "<- e, ee, se"],
  KK: ["-> s", "<- s", "...", "-> e, es, ss", "<- e, ee, se"],
  KX: ["-> s", "...", "-> e", "<- e, ee, se, s, es"],
  XN: ["-> e", "<- e, ee", "-> s, se"],
  XK: ["<- s", "...", "-> e, es", "<- e, ee", "-> s, se"],
  XX: ["-> e", "<- e, ee, s, es", "-> s, se"],
  IN: ["-> e, s", "<- e, ee, se"],
  IK: ["<- s", "...", "-> e, es, s, ss", "<- e, ee, se"],
  IX: ["-> e, s", "<- e, ee, se, s, es"],
} as const;
