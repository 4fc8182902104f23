/**
 * The servers of a ticket that lead into a private network or to this machine. On a terminal all of them are asked about
 * in one question, before anything is dialled; elsewhere they are skipped, and the option that names them is printed.
 *
 * @module
 */

import { NetworkError } from "../base/errors.ts";
import { stripLogin } from "../base/login.ts";
import { Deadline } from "../base/timers.ts";
import type { Network } from "../net/network.ts";
import { resolvingOnce } from "../net/resolve.ts";
import { systemNetwork } from "../net/system.ts";
import { DialPolicy } from "../peer/dial_policy.ts";
import type { AllowUrl, PeerOptions } from "../peer/options.ts";
import { decodeTicket } from "../peer/ticket.ts";
import { MANUAL_URL } from "../signal/manual.ts";
import type { ConnectionEvents } from "./peer_events.ts";
import { copyable } from "./layout.ts";
import { type PeerInput, signalingOption } from "./peer_options.ts";
import { type Answer, ask, canAsk } from "./question.ts";
import { abortable } from "@std/async/abortable";

/** How to ask. */
export interface AskUrlsOptions {
  /**
   * `"always"`; `"if-needed"`, only if no other server of the ticket can be used, because the command has another question
   * to ask; or `"never"`.
   */
  readonly asks: "always" | "if-needed" | "never";
  /** Whether to find out now that there is no server to use, rather than on the first connection. */
  readonly failsEarly?: boolean;
}

/** Decides about the servers of one ticket. */
export class TicketUrls {
  /** For the peer that dials them: it dials the addresses that were judged, without another lookup. */
  readonly network: Network;
  readonly #input: PeerInput;
  readonly #events: ConnectionEvents;
  readonly #named: readonly string[];
  /** Whether names must not be looked up, since that goes around the proxy. */
  readonly #isSealed: boolean;
  /** By URL and addresses: a server that has moved was not agreed to. */
  readonly #decisions = new Map<string, boolean>();

  /** @param options.signaling the servers that the command line names, which need no permission */
  constructor(
    input: PeerInput,
    events: ConnectionEvents,
    { signaling = [], network = systemNetwork, proxy, relayOnly = false }: PeerOptions,
  ) {
    this.#isSealed = relayOnly && proxy !== undefined;
    this.network = resolvingOnce(network, FRESH_MS);
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
    const { privateServers, unusable, usable } = await this.#lookUp(urls);
    if (privateServers.length === 0 || asks === "if-needed" && usable > 0) return;
    const several = privateServers.length > 1;
    const facts = [
      `The ticket names ${
        several ? "servers" : "a server"
      } in a private network or on this machine:`,
      ...privateServers.map(({ url, addresses }) =>
        `  ${stripLogin(url)}  (${addresses.join(", ")})`
      ),
    ];
    const text = `Connect to ${several ? "them" : "it"}?`;
    const answer = mayAsk ? await ask({ facts, text }, io, stdin) : "unanswerable";
    for (const each of privateServers) {
      if (answer === "yes") this.#decisions.set(keyOf(each), true);
      else this.#skip(each);
    }
    const left = urls.length - unusable + (answer === "yes" ? privateServers.length : 0);
    if (left === 0) throw noneLeft(answer, privateServers);
  }

  /** Those that need permission, how many cannot be used without it or ever, and how many can be used now. */
  async #lookUp(
    urls: readonly string[],
  ): Promise<{ privateServers: readonly PrivateServer[]; unusable: number; usable: number }> {
    const { io } = this.#input;
    const privateServers: PrivateServer[] = [];
    const policy = new DialPolicy({
      network: this.network,
      named: this.#named,
      isSealed: this.#isSealed,
      allowUrl: (url, addresses) => {
        if (this.#decisions.get(keyOf({ url, addresses }))) return true;
        privateServers.push({ url, addresses });
        return false;
      },
    });
    using deadline = new Deadline(LOOKUP_MS, io.signal);
    const { signal } = deadline;
    const results = await Promise.allSettled(
      urls.map((url) => abortable(policy.networkFor(url, signal), signal)),
    );
    io.signal.throwIfAborted();
    const isUnusable = (result: PromiseSettledResult<unknown>) =>
      result.status === "rejected" && isNotAllowed(result.reason);
    const usable = results.filter(({ status }) => status === "fulfilled").length; // a name may not resolve
    const unusable = results.filter(isUnusable).length;
    return { privateServers: [...privateServers], unusable, usable };
  }

  #skip({ url, addresses }: PrivateServer): false {
    if (/^turns?:/.test(url)) return false; // a relay that the peer names, of which it may name many
    this.#decisions.set(keyOf({ url, addresses }), false);
    const shown = stripLogin(url);
    const reason = `it leads to ${addresses.join(", ")}`;
    const remedy = `If you trust it, add ${signalingOption(url)}`;
    this.#events.emit({ event: "signaling", url: shown, state: "skipped", reason, remedy });
    this.#events.print(
      `Skipped ${shown}, which the ticket names: ${reason}; if you trust it, add ${
        copyable(signalingOption(url))
      }`,
    );
    return false;
  }
}

/** Whether no server of a ticket may be used. */
export function isNotAllowed(error: unknown): error is NetworkError {
  return error instanceof NetworkError && error.reason === "not-allowed";
}

/** A server in a private network, or on this machine. */
interface PrivateServer {
  readonly url: string;
  readonly addresses: readonly string[];
}

function keyOf({ url, addresses }: PrivateServer): string {
  return [url, ...[...addresses].sort()].join(" ");
}

function noneLeft(answer: Answer, servers: readonly PrivateServer[]): NetworkError {
  const cannot = "Cannot use any server that the ticket names";
  const remedy = `If you trust ${servers.length > 1 ? "them" : "it"}, add ${
    servers.map(({ url }) => signalingOption(url)).join(" ")
  }`;
  return answer === "unanswerable"
    ? new NetworkError(`${cannot}: there is no terminal to ask on`, "not-allowed", { remedy })
    : new NetworkError(
      `${cannot}: ${answer === "no" ? "the answer was no" : "there was no answer"}`,
      "other",
      { remedy },
    );
}

/** Chosen by us: a name that takes longer to look up is skipped. */
const LOOKUP_MS = 5000;

/** Chosen by us: time to read the question and answer it. Later connections follow a server that has moved. */
const FRESH_MS = 60_000;
