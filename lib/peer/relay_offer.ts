/**
 * Keeps the other side's relay state here, and this side's there, over a channel that loses and repeats.
 *
 * @module
 */

import { MalformedMessageError } from "../base/errors.ts";
import { Deadline } from "../base/timers.ts";
import {
  formatTransportAddress,
  isIp,
  parseIp,
  parseTransportAddress,
  type TransportAddress,
} from "../net/address.ts";
import { isAllowedOnInternet } from "../punch/nomination.ts";
import type { SignalChannel } from "../signal/channel.ts";

/** One side's state; each message has all of it. */
export interface RelayState {
  /** 16 random bytes as hexadecimal digits: half of the secret that both prove. */
  readonly nonce: string;
  /** Whether this side has relays, or may still get some. */
  readonly mayOffer: boolean;
  /** Grows with each change. */
  readonly version: number;
  /** The other side's version, as far as it is known here; 0 before. */
  readonly heard: number;
  /** Addresses from which this side's dials may come; a relay has to be told whom to let in. */
  readonly ips: readonly string[];
  /** Where this side is dialled by way of its relays. */
  readonly relayed: readonly TransportAddress[];
}

/** The bytes of a state. */
export function encodeRelayState(state: RelayState): Uint8Array<ArrayBuffer> {
  const relayed = state.relayed.map(formatTransportAddress);
  return new TextEncoder().encode(JSON.stringify({ ...state, relayed }));
}

/**
 * Reads a state.
 *
 * @throws {MalformedMessageError} if it is none
 */
export function decodeRelayState(bytes: Uint8Array): RelayState {
  const { nonce, mayOffer, version, heard, ips, relayed } = parse(bytes);
  if (typeof nonce !== "string" || !/^[0-9a-f]{32}$/.test(nonce)) {
    throw malformed("nonce", "is 16 bytes in hexadecimal digits");
  }
  return {
    nonce,
    mayOffer: mayOffer === true,
    version: asCount(version, "version"),
    heard: asCount(heard, "heard"),
    ips: asTexts(ips, "ips").map((ip) => {
      if (!isIp(ip)) throw malformed("ips", "are IP addresses");
      return parseIp(ip);
    }),
    relayed: asTexts(relayed, "relayed").map((address) => {
      try {
        return parseTransportAddress(address);
      } catch {
        throw malformed("relayed", "are addresses with a port");
      }
    }),
  };
}

function parse(bytes: Uint8Array): Record<string, unknown> {
  try {
    const value = JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(bytes));
    if (typeof value === "object" && value !== null) return value;
  } catch { /* told below */ }
  throw malformed("content", "is a JSON object");
}

function asCount(value: unknown, field: string): number {
  if (typeof value === "number" && Number.isSafeInteger(value) && value >= 0) return value;
  throw malformed(field, "is a whole number");
}

function asTexts(value: unknown, field: string): string[] {
  const isList = Array.isArray(value) && value.length <= MAX_ADDRESSES &&
    value.every((each) => typeof each === "string" && each.length <= 64);
  if (isList) return value;
  throw malformed(field, `is a list of at most ${MAX_ADDRESSES} texts`);
}

function malformed(field: string, rule: string): MalformedMessageError {
  return new MalformedMessageError(`Cannot read relay state: ${field} ${rule}`);
}

/** Ours: each costs a permission at a server, or a dial. */
export const MAX_ADDRESSES = 8;

/** Tells, and is told. */
export class RelayExchange {
  readonly #channel: SignalChannel;
  readonly #onState: (theirs: RelayState) => void;
  #ours: RelayState;
  #theirs: RelayState | undefined;
  #heard = 0;
  #repliedAtMs = -Infinity;
  #owesReply = false;
  #wake = new AbortController();

  /**
   * @param own what is known from the beginning
   * @param onState called whenever the other side says its state
   */
  constructor(
    channel: SignalChannel,
    own: Pick<RelayState, "nonce" | "mayOffer">,
    onState: (theirs: RelayState) => void,
  ) {
    this.#channel = channel;
    this.#onState = onState;
    this.#ours = { ...own, version: 1, heard: 0, ips: [], relayed: [] };
  }

  /** Whether the other side knows what this one says. */
  get isHeard(): boolean {
    return this.#heard >= this.#ours.version;
  }

  /** Changes what the other side is told. */
  tell(change: Partial<Pick<RelayState, "ips" | "relayed" | "mayOffer">>): void {
    this.#ours = { ...this.#ours, ...change, version: this.#ours.version + 1 };
    this.#wake.abort();
  }

  /** Lets the other side know that it was heard, if it does not yet: before this side falls silent. */
  async sayLast(): Promise<void> {
    if (this.#owesReply) await this.#send();
  }

  /**
   * Sends and receives until the signal ends it.
   *
   * @throws the signal's reason
   * @throws {NetworkError} if the channel breaks
   */
  async run(signal: AbortSignal): Promise<never> {
    let waitMs = FIRST_WAIT_MS;
    let toldVersion = 0;
    for (;;) {
      const isNew = toldVersion < this.#ours.version;
      if (isNew) waitMs = FIRST_WAIT_MS;
      if (isNew || this.#owesReply || this.#heard < this.#ours.version) {
        toldVersion = this.#ours.version;
        await this.#send();
      }
      this.#wake = new AbortController();
      using turn = new Deadline(waitMs, AbortSignal.any([signal, this.#wake.signal]));
      waitMs = Math.min(2 * waitMs, MAX_WAIT_MS);
      try {
        for (;;) await this.#take(await this.#channel.receive({ signal: turn.signal }));
      } catch (error) {
        signal.throwIfAborted();
        if (error !== turn.signal.reason) throw error;
      }
    }
  }

  async #take(message: Uint8Array): Promise<void> {
    const theirs = tryDecode(message);
    if (theirs === undefined) return;
    const before = this.#theirs;
    // One nonce for each line: another one would let the other side have everything done again and again.
    if (before !== undefined && theirs.nonce !== before.nonce) return;
    if (theirs.version < (before?.version ?? 0)) return;
    const isNews = theirs.version !== before?.version;
    this.#heard = Math.max(this.#heard, theirs.heard);
    this.#theirs = theirs;
    this.#ours = { ...this.#ours, heard: theirs.version };
    if (isNews) await this.#reply();
    this.#onState(theirs);
  }

  /** At once, unless there was one just now: then with the next repetition. */
  async #reply(): Promise<void> {
    const nowMs = performance.now();
    this.#owesReply = nowMs - this.#repliedAtMs < MIN_GAP_MS;
    if (this.#owesReply) return;
    this.#repliedAtMs = nowMs;
    await this.#send();
  }

  async #send(): Promise<void> {
    this.#owesReply = false;
    await this.#channel.send(encodeRelayState(this.#ours));
  }
}

function tryDecode(message: Uint8Array): RelayState | undefined {
  try {
    return decodeRelayState(message);
  } catch (error) {
    if (error instanceof MalformedMessageError) return undefined;
    throw error;
  }
}

/** Ours: as for offers of a punch. */
const FIRST_WAIT_MS = 300;
const MAX_WAIT_MS = 2000;

/** From one reply to the next. Ours: a peer has a few changes to tell, whatever a hostile one says. */
const MIN_GAP_MS = 100;

/** The first addresses that the other side names, at most {@linkcode MAX_ADDRESSES} of each kind, whatever it says later. */
export class NamedAddresses {
  /** From where it dials. */
  readonly ips: Set<string> = new Set();
  readonly #relayed = new Map<string, TransportAddress>();

  /** Where it can be dialled by way of a relay; none that a relay on the internet does not have. */
  get relayed(): TransportAddress[] {
    return [...this.#relayed.values()];
  }

  /** Takes in what a state names. */
  add({ ips, relayed }: Pick<RelayState, "ips" | "relayed">): void {
    for (const ip of ips) {
      if (this.ips.size < MAX_ADDRESSES) this.ips.add(ip);
    }
    for (const address of relayed) {
      if (this.#relayed.size >= MAX_ADDRESSES || !isAllowedOnInternet(address)) continue;
      this.#relayed.set(formatTransportAddress(address), address);
    }
  }
}
