/**
 * Mapping an IPv4 port by UPnP: carries out what the engine decides, with the device's answers as its events.
 *
 * @module
 */

import { PunchlineError } from "../../base/errors.ts";
import { optionalResolvers, TaskGroup } from "../../base/tasks.ts";
import { Deadline } from "../../base/timers.ts";
import { cannot, type MappingRequest } from "../mapper.ts";
import {
  addAnyPortMapping,
  addPortMapping,
  type PortMappingEntry,
  type PortMappingKey,
} from "./actions.ts";
import type { IgdService } from "./device.ts";
import type { AddMappingAttempt } from "./fallbacks.ts";
import type { IgdFailure } from "./faults.ts";
import { deleteEntry } from "./mapping_deletion.ts";
import {
  type ClosingAction,
  leadsHere,
  type LoosePort,
  type MappingAction,
  type MappingEngineEvent,
  type MappingState,
  mayLeadHere,
  openClosing,
  openMapping,
  type RequestEnd,
  type SeenMapping,
  stepClosing,
  stepMapping,
} from "./mapping_engine.ts";
import {
  externalIpOf,
  findEntry,
  readEntry,
  readMapping,
  tryList,
  tryReadEntry,
} from "./mapping_table.ts";
import { failureOf, igdRefusal, type IgdSession, tryCall } from "./session.ts";
import type { SoapOutcome } from "./soap.ts";
import { delay } from "@std/async/delay";

/** A mapping that the device granted. */
export interface GrantedPort {
  readonly service: IgdService;
  readonly externalPort: number;
  /** `0.0.0.0` if the device does not report it. */
  readonly externalIp: string;
  /** `Infinity` if it never expires. */
  readonly leaseSeconds: number;
  /** The lease that was asked for; 0 for a permanent one. */
  readonly askedLeaseSeconds: number;
  /** The mapping's description in the router's table. */
  readonly description: string;
}

/**
 * Maps a port. If it fails or is aborted, nothing that was asked for stays open, as far as the device can be reached.
 *
 * @param services the device's connections, in the order in which to use them; at least one
 * @throws {MappingRefusedError} if the device refuses every attempt
 * @throws {MalformedMessageError} if it answers, but its answers cannot be read
 * @throws {NoResponseError} if it does not answer in time
 * @throws {NetworkError} if it cannot be reached
 * @throws the signal's reason on abort
 */
export async function mapIgdPort(
  session: IgdSession,
  services: readonly IgdService[],
  request: MappingRequest,
): Promise<GrantedPort> {
  return await new MappingDriver(session, services, request).run();
}

class MappingDriver {
  readonly #session: IgdSession;
  readonly #services: readonly IgdService[];
  readonly #request: MappingRequest;
  /** The request that has not been answered, which an abort of the call does not end. */
  readonly #asking = new TaskGroup(() => {}); // its failure is its event
  #answer: Promise<MappingEngineEvent> | undefined;
  /** By service. */
  readonly #externalIps = new Map<IgdService, string>();
  #isAnswered = true;
  #watches = 0;
  #askedAtMs = -Infinity;

  constructor(session: IgdSession, services: readonly IgdService[], request: MappingRequest) {
    this.#session = session;
    this.#services = services;
    this.#request = request;
  }

  async run(): Promise<GrantedPort> {
    let { state, action } = openMapping({
      request: this.#request,
      serviceVersions: this.#services.map(({ version }) => version),
      otherPorts: drawPorts(),
    });
    try {
      while (action.kind !== "grant") {
        if (action.kind === "refuse") throw this.#refusal(action.failure);
        const event = await this.#perform(action, state);
        ({ state, action } = stepMapping(state, event) ?? { state, action });
      }
      await this.#asking.stop(); // it has the device's turn
      const { service: index, ...granted } = action.granted;
      const service = this.#services[index]!;
      const { leaseSeconds } = granted;
      return {
        ...granted,
        service,
        externalIp: await this.#externalIpOf(service),
        leaseSeconds: leaseSeconds === 0 ? Infinity : leaseSeconds,
      };
    } catch (error) {
      const loose = action.kind === "grant" ? [action.granted] : state.loose;
      if (loose.length > 0) await this.#close(state, loose);
      throw error;
    } finally {
      await this.#asking.stop();
    }
  }

  async #perform(action: MappingAction, state: MappingState): Promise<MappingEngineEvent> {
    const { signal } = this.#session;
    signal?.throwIfAborted();
    switch (action.kind) {
      case "read":
        return { kind: "read", entry: await this.#readBefore(state) };
      case "ask": {
        this.#watches = 0;
        this.#askedAtMs = performance.now();
        this.#isAnswered = false;
        this.#answer = this.#ask(state).finally(() => this.#isAnswered = true);
        return await this.#answerOr(async (signal) => {
          await delay(SILENCE_MS, { signal });
          return { kind: "silent" };
        });
      }
      case "look": {
        if (state.phase !== "watching") return { kind: "looked", seen: await this.#look(state) };
        const pauseMs = this.#watches++ === 0 ? 0 : SILENCE_MS;
        return await this.#answerOr(async (signal) => {
          await delay(pauseMs, { signal });
          const session = { ...this.#session, signal };
          return { kind: "looked", seen: await this.#look(state, session) };
        });
      }
      case "remove": {
        const { service, externalPort } = action.port;
        const { protocol } = this.#request;
        await this.#tryRemove(this.#services[service]!, { protocol, externalPort });
        return { kind: "removed" };
      }
      default:
        throw new TypeError(`Cannot perform ${action.kind}`); // run() has ended
    }
  }

  /** As far as the device lets it be removed. */
  async #tryRemove(service: IgdService, key: PortMappingKey): Promise<void> {
    const action = cannot("map", this.#request);
    try {
      await deleteEntry(this.#session, service, { key, target: this.#request, action });
    } catch (error) {
      this.#session.signal?.throwIfAborted();
      if (!(error instanceof PunchlineError)) throw error;
    }
  }

  /** The answer of the device, or whatever happens before; on abort the request goes on. */
  async #answerOr(
    other: (signal: AbortSignal) => Promise<MappingEngineEvent>,
  ): Promise<MappingEngineEvent> {
    const { signal } = this.#session;
    const first = optionalResolvers<MappingEngineEvent>();
    await using meanwhile = new TaskGroup(first.reject);
    meanwhile.run(async (over) => {
      const either = signal === undefined ? over : AbortSignal.any([signal, over]);
      first.resolve(await other(either));
    });
    this.#answer?.then(first.resolve, first.reject);
    return await first.promise;
  }

  /** In the same round trip as the external address, the first time. */
  async #readBefore({ attempt }: MappingState): Promise<PortMappingEntry | undefined | "unknown"> {
    const session = this.#session;
    const service = this.#services[attempt.service]!;
    const { protocol } = this.#request;
    const key = { protocol, externalPort: attempt.externalPort };
    if (this.#externalIps.has(service)) return await readEntry(session, service, { key });
    const shown = await readMapping(session, service, key);
    this.#externalIps.set(service, shown.externalIp);
    const { entry } = shown;
    const isHeld = this.#isHeld({ externalPort: attempt.externalPort });
    if (!isHeld) return entry;
    return await findEntry(session, service, { key, target: this.#request, entry });
  }

  async #externalIpOf(service: IgdService): Promise<string> {
    const known = this.#externalIps.get(service);
    if (known !== undefined && known !== "0.0.0.0") return known;
    return await externalIpOf(this.#session, service);
  }

  #ask({ attempt }: MappingState): Promise<MappingEngineEvent> {
    const { protocol, internal } = this.#request;
    const { externalPort, leaseSeconds, description } = attempt;
    const entry = {
      protocol,
      externalPort,
      internalClient: internal.ip,
      internalPort: internal.port,
      description,
      leaseSeconds,
    };
    const service = this.#services[attempt.service]!;
    const answered = optionalResolvers<MappingEngineEvent>();
    this.#asking.run(async (signal) => {
      const session = { ...this.#session, signal };
      const options = { timeoutMs: ADD_TIMEOUT_MS };
      const asked: Promise<SoapOutcome<number | void>> = attempt.action === "AddPortMapping"
        ? tryCall(session, service, addPortMapping(entry), options)
        : tryCall(session, service, addAnyPortMapping(entry), options);
      try {
        const outcome = await asked;
        answered.resolve(
          outcome.kind === "done"
            ? { kind: "answered", externalPort: outcome.value ?? undefined }
            : { kind: "failed", failure: outcome },
        );
      } catch (error) {
        const failure = failureOf(error);
        if (failure === undefined) answered.reject(error);
        else answered.resolve({ kind: "failed", failure });
      }
    });
    return answered.promise;
  }

  async #look(state: MappingState, session = this.#session): Promise<SeenMapping> {
    return await this.#search(session, {
      attempt: state.attempt,
      isUrgent: state.phase === "watching",
      hides: state.doubt === undefined,
    });
  }

  /**
   * What the tables show; the list is read only where there is time for it.
   *
   * @param hides whether a table that lists nothing may hide what it has
   */
  async #search(
    session: IgdSession,
    { attempt, isUrgent, hides }: {
      attempt: AddMappingAttempt;
      isUrgent: boolean;
      hides: boolean;
    },
  ): Promise<SeenMapping> {
    const services = this.#inOrder(attempt.service);
    const seen = await this.#lookUp(session, { services, port: attempt, isUrgent });
    const isClear = seen.kind === "here" || seen.kind === "hidden";
    if (isClear || isUrgent) return seen;
    const entries = await tryList(session, services[0]!);
    if (entries === undefined) return hides && seen.kind === "nothing" ? { kind: "hidden" } : seen;
    const entry = entries.find((entry) =>
      leadsHere(entry, this.#request) &&
      (entry.externalPort === attempt.externalPort ||
        entry.description !== "" && attempt.description.startsWith(entry.description) &&
          !this.#isHeld(entry))
    );
    return entry === undefined ? seen : { kind: "here", service: attempt.service, entry };
  }

  #isHeld({ externalPort }: Pick<PortMappingEntry, "externalPort">): boolean {
    return (this.#request.held ?? []).some(({ external }) => external.port === externalPort);
  }

  async #lookUp(
    session: IgdSession,
    { services, port, isUrgent }: {
      services: readonly IgdService[];
      port: Pick<LoosePort, "externalPort">;
      isUrgent: boolean;
    },
  ): Promise<SeenMapping> {
    const key = { protocol: this.#request.protocol, externalPort: port.externalPort };
    let first: SeenMapping | undefined;
    for (const service of services) {
      const entry = await tryReadEntry(session, service, { key, isUrgent });
      if (entry !== undefined && entry !== "unknown") {
        const isHere = mayLeadHere(entry, this.#request);
        if (isHere) return { kind: "here", service: this.#services.indexOf(service), entry };
      }
      first ??= entry === undefined
        ? { kind: "nothing" }
        : entry === "unknown"
        ? { kind: "hidden" }
        : { kind: "elsewhere", entry };
    }
    return first ?? { kind: "hidden" };
  }

  /** Closes what was asked for and is not announced, for as long as the device may still open it. */
  async #close(state: MappingState, loose: readonly LoosePort[]): Promise<void> {
    const pendingMs = CLOSE_MS - (performance.now() - this.#askedAtMs);
    const closeMs = this.#isAnswered ? ANSWERED_CLOSE_MS : Math.max(MIN_CLOSE_MS, pendingMs);
    using deadline = new Deadline(closeMs);
    const { signal } = deadline;
    const session = { ...this.#session, signal };
    const { protocol } = this.#request;
    let end: RequestEnd | undefined = this.#answer === undefined ? {} : undefined;
    const ended = this.#answer?.then(
      (answer) => end = answer.kind === "answered" ? { externalPort: answer.externalPort } : {},
      () => end = {},
    );
    const perform = async (action: Exclude<ClosingAction, { kind: "end" }>) => {
      switch (action.kind) {
        case "look": {
          const { port, isUrgent } = action;
          const search = { attempt: { ...state.attempt, ...port }, isUrgent, hides: false };
          return { kind: "looked", seen: await this.#search(session, search) } as const;
        }
        case "delete": {
          const { service, externalPort } = action.port;
          await deleteEntry(session, this.#services[service]!, {
            key: { protocol, externalPort },
            target: this.#request,
            action: cannot("map", this.#request),
            isUrgent: true,
          });
          return { kind: "deleted", end } as const;
        }
        case "wait":
          await Promise.race([ended, delay(CLOSE_PAUSE_MS, { signal })]);
          return { kind: "waited", end } as const;
      }
    };
    try {
      let { state: closing, action } = openClosing(loose, end);
      while (action.kind !== "end") {
        ({ state: closing, action } = stepClosing(closing, await perform(action)));
      }
    } catch (error) {
      if (error !== signal.reason && !(error instanceof PunchlineError)) throw error;
    }
  }

  #inOrder(first: number): readonly IgdService[] {
    const service = this.#services[first]!;
    return [service, ...this.#services.filter((each) => each !== service)];
  }

  #refusal(failure: IgdFailure): PunchlineError {
    return igdRefusal(failure, cannot("map", this.#request), this.#session.gateway);
  }
}

/** At random, so that hosts behind one router do not try the same ports. */
function drawPorts(): number[] {
  const drawn = crypto.getRandomValues(new Uint16Array(OTHER_PORTS));
  return Array.from(drawn, (number) => FIRST_DYNAMIC_PORT + number % DYNAMIC_PORTS);
}

/** RFC 6335 §6: the dynamic ports. */
const FIRST_DYNAMIC_PORT = 49_152;
const DYNAMIC_PORTS = 16_384;

/** Chosen by us: how many other ports to try. */
const OTHER_PORTS = 4;

/** Chosen by us: devices answer within a second, but for those that never do. */
const SILENCE_MS = 3000;

/** UPnP Device Architecture 2.0 §3.2.2: devices have thirty seconds to answer. */
const ADD_TIMEOUT_MS = 30_000;

/** Chosen by us: the slowest device known takes 9.5 s to add a mapping, and the program may be ending. */
const CLOSE_MS = 14_000;
const MIN_CLOSE_MS = 2000;

/** Chosen by us: two questions that are not answered, and the deletion. */
const ANSWERED_CLOSE_MS = 7000;
const CLOSE_PAUSE_MS = 500;
