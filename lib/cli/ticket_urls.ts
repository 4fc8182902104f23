/**
 * The servers of a ticket that lead into a private network or to this machine. On a terminal all of them are asked about
 * in one question, before anything is dialled; elsewhere they are skipped, and the option that names them is printed.
 *
 * @module
 */

import { NetworkError } from "../base/errors.ts";
import { Deadline } from "../base/timers.ts";
import { systemNetwork } from "../net/system.ts";
import { DialPolicy, stripLogin } from "../peer/dial_policy.ts";
import type { AllowUrl, PeerOptions } from "../peer/options.ts";
import { decodeTicket } from "../peer/ticket.ts";
import { MANUAL_URL } from "../signal/manual.ts";
import type { ConnectionEvents } from "./peer_events.ts";
import type { PeerInput } from "./peer_options.ts";
import { copyable } from "./layout.ts";
import { type Answer, ask, canAsk } from "./question.ts";
import { abortable } from "@std/async/abortable";

/** How to ask. */
export interface AskUrlsOptions {
  /**
   * `"always"`; `"if-needed"`, only if the ticket names no other server, because the command has another question to ask;
   * or `"never"`.
   */
  readonly asks: "always" | "if-needed" | "never";
  /** Whether to find out now that there is no server to use, rather than on the first connection. */
  readonly failsEarly?: boolean;
}

/** Decides about the servers of one ticket. */
export class TicketUrls {
  readonly #input: PeerInput;
  readonly #events: ConnectionEvents;
  readonly #named: readonly string[];
  /** By URL and addresses: a server that has moved was not agreed to. */
  readonly #decisions = new Map<string, boolean>();

  /** @param options.signaling the servers that the command line names, which need no permission */
  constructor(input: PeerInput, events: ConnectionEvents, { signaling = [] }: PeerOptions) {
    this.#input = input;
    this.#events = events;
    this.#named = signaling.filter((each) => typeof each === "string");
  }

  /** The servers that were agreed to, each with its addresses; to be remembered. */
  get agreed(): string[] {
    return [...this.#decisions].flatMap(([key, isAllowed]) => isAllowed ? [key] : []);
  }

  /** Takes over what was agreed to before. */
  agree(servers: readonly string[]): void {
    for (const key of servers) this.#decisions.set(key, true);
  }

  /** What was decided; a server that was not asked about is skipped. */
  readonly allow: AllowUrl = (url, addresses) => {
    const key = keyOf({ url, addresses });
    return this.#decisions.get(key) ?? this.#skip({ url, addresses });
  };

  /**
   * Looks up the ticket's servers, and asks about those that need permission.
   *
   * @throws {NetworkError} if there is no server left; `not-allowed` if there was no terminal to ask on
   * @throws the reason of the command's signal on abort
   */
  async ask(ticket: string, { asks, failsEarly = false }: AskUrlsOptions): Promise<void> {
    const { io, stdin } = this.#input;
    const mayAsk = asks !== "never" && canAsk(io);
    if (!mayAsk && !failsEarly) return;
    const urls = decodeTicket(ticket).signaling.filter((url) => url !== MANUAL_URL);
    const { unusual, blocked } = await this.#lookUp(urls);
    if (unusual.length === 0 || asks === "if-needed" && blocked < urls.length) return;
    const several = unusual.length > 1;
    const facts = [
      `The ticket names ${
        several ? "servers" : "a server"
      } in a private network or on this machine:`,
      ...unusual.map(({ url, addresses }) => `  ${stripLogin(url)}  (${addresses.join(", ")})`),
    ];
    const text = `Connect to ${several ? "them" : "it"}?`;
    const answer = mayAsk ? await ask({ facts, text }, io, stdin) : "unanswerable";
    for (const each of unusual) {
      if (answer === "yes") this.#decisions.set(keyOf(each), true);
      else this.#skip(each);
    }
    const stillBlocked = answer === "yes" ? blocked - unusual.length : blocked;
    if (stillBlocked === urls.length) throw noneLeft(answer, unusual);
  }

  /** Those that need permission, and how many cannot be used without it or at all. */
  async #lookUp(
    urls: readonly string[],
  ): Promise<{ unusual: readonly UnusualUrl[]; blocked: number }> {
    const { io } = this.#input;
    const unusual: UnusualUrl[] = [];
    const policy = new DialPolicy({
      network: systemNetwork,
      named: this.#named,
      allowUrl: (url, addresses) => {
        if (this.#decisions.get(keyOf({ url, addresses }))) return true;
        unusual.push({ url, addresses });
        return false;
      },
    });
    using deadline = new Deadline(LOOKUP_MS, io.signal);
    const { signal } = deadline;
    const results = await Promise.allSettled(
      urls.map((url) => abortable(policy.networkFor(url, signal), signal)),
    );
    io.signal.throwIfAborted();
    const isBlocked = (result: PromiseSettledResult<unknown>) =>
      result.status === "rejected" && isNotAllowed(result.reason);
    return { unusual: [...unusual], blocked: results.filter(isBlocked).length };
  }

  #skip({ url, addresses }: UnusualUrl): false {
    if (/^turns?:/.test(url)) return false; // a relay that the peer names, of which it may name many
    this.#decisions.set(keyOf({ url, addresses }), false);
    const shown = stripLogin(url);
    const reason = `it leads to ${addresses.join(", ")}`;
    const remedy = `if you trust it, add ${optionOf(url)}`;
    this.#events.emit({
      event: "signaling",
      url: shown,
      state: "skipped",
      reason: `${reason}; ${remedy}`,
      remedy,
    });
    this.#events.print(
      `Skipped ${shown}, which the ticket names: ${reason}; if you trust it, add ${
        copyable(optionOf(url))
      }`,
    );
    return false;
  }
}

/** Whether no server of a ticket may be used. */
export function isNotAllowed(error: unknown): error is NetworkError {
  return error instanceof NetworkError && error.reason === "not-allowed";
}

interface UnusualUrl {
  readonly url: string;
  readonly addresses: readonly string[];
}

function keyOf({ url, addresses }: UnusualUrl): string {
  return [url, ...[...addresses].sort()].join(" ");
}

function noneLeft(answer: Answer, unusual: readonly UnusualUrl[]): NetworkError {
  const cannot = "Cannot use any server that the ticket names";
  const remedy = `If you trust ${unusual.length > 1 ? "them" : "it"}, add ${
    unusual.map(({ url }) => optionOf(url)).join(" ")
  }`;
  return answer === "unanswerable"
    ? new NetworkError(`${cannot}: there is no terminal to ask on`, "not-allowed", { remedy })
    : new NetworkError(
      `${cannot}: ${answer === "no" ? "the answer was no" : "there was no answer"}`,
      "other",
      { remedy },
    );
}

/** The option that names a server of a ticket, as it is typed. */
function optionOf(url: string): string {
  return `${/^mqtt/.test(url) ? "--mqtt" : "--rendezvous"} ${stripLogin(url)}`;
}

/** Chosen by us: a name that takes longer to look up is skipped. */
const LOOKUP_MS = 5000;
