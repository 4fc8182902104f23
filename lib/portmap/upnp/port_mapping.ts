/**
 * Mapping an IPv4 port by UPnP, and deleting it: carries out what the engine decides, with the device's answers as its
 * events.
 *
 * @module
 */

import {
  MalformedMessageError,
  messageOf,
  NetworkError,
  NoResponseError,
  PunchlineError,
} from "../../base/errors.ts";
import { optionalResolvers, TaskGroup } from "../../base/tasks.ts";
import { Deadline } from "../../base/timers.ts";
import { cannot, MappingRefusedError, type MappingRequest } from "../mapper.ts";
import {
  addAnyPortMapping,
  addPortMapping,
  deletePortMapping,
  getExternalIpAddress,
  getSpecificPortMappingEntry,
  type PortMappingEntry,
  type PortMappingKey,
} from "./actions.ts";
import type { IgdService } from "./device.ts";
import type { AddMappingAttempt } from "./fallbacks.ts";
import { type IgdFailure, meansNoEntry } from "./faults.ts";
import {
  leadsHere,
  type LoosePort,
  type MappingAction,
  type MappingEngineEvent,
  type MappingState,
  mayLeadHere,
  openMapping,
  type SeenMapping,
  stepMapping,
} from "./mapping_engine.ts";
import { igdRefusal, type IgdSession, listEntries, tryCall } from "./session.ts";
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

/** What to delete, and where it is supposed to be. */
export interface ClosedMapping {
  readonly key: PortMappingKey;
  /** Where it leads, so that no other host's mapping is deleted; left out to delete any. */
  readonly target?: Pick<MappingRequest, "internal" | "protocol">;
  /** The start of error messages. */
  readonly action: string;
}

/**
 * Deletes a mapping, and verifies that it is gone. A mapping that is not there, or that another host has by now, is not an
 * error.
 *
 * @param services the one that granted it comes first
 * @throws {MappingRefusedError} if it stays there
 */
export async function unmapIgdPort(
  session: IgdSession,
  services: readonly IgdService[],
  closed: ClosedMapping,
): Promise<void> {
  const { key, target, action } = closed;
  const holders = await holdersOf(session, services, { key, target });
  for (const service of holders) await deleteEntry(session, service, { key, target, action });
}

/**
 * The entry in the device's table; `undefined` if there is none, `"unknown"` if the device does not say.
 *
 * @throws {NoResponseError} if the device does not answer in time
 * @throws {NetworkError} if it cannot be reached
 */
export async function readEntry(
  session: IgdSession,
  service: IgdService,
  { key, isUrgent }: { readonly key: PortMappingKey; readonly isUrgent?: boolean },
): Promise<PortMappingEntry | undefined | "unknown"> {
  try {
    const action = getSpecificPortMappingEntry(key);
    const outcome = await tryCall(session, service, action, {
      isUrgent,
      timeoutMs: READ_TIMEOUT_MS,
    });
    if (outcome.kind === "done") return isNoEntry(outcome.value) ? undefined : outcome.value;
    return meansNoEntry(outcome) ? undefined : "unknown";
  } catch (error) {
    if (error instanceof MalformedMessageError) return "unknown";
    throw error;
  }
}

/** What a device shows of a mapping. */
export interface ShownMapping {
  /** The entry of its external port; `undefined` if there is none, `"unknown"` if the device does not say. */
  readonly entry: PortMappingEntry | undefined | "unknown";
  /** `0.0.0.0` if the device reports none. */
  readonly externalIp: string;
}

/**
 * An entry and the external address, in one round trip. A device that does not answer one of the questions may answer the
 * other.
 *
 * @throws {NoResponseError} if it answers neither
 */
export async function readMapping(
  session: IgdSession,
  service: IgdService,
  key: PortMappingKey,
): Promise<ShownMapping> {
  let failure: NoResponseError | undefined;
  const [entry, externalIp] = await session.soap.callBoth([
    async (isUrgent) => {
      try {
        return await readEntry(session, service, { key, isUrgent });
      } catch (error) {
        session.signal?.throwIfAborted();
        if (!(error instanceof NoResponseError)) throw error;
        failure = error;
        return "unknown" as const;
      }
    },
    (isUrgent) => externalIpOf(session, service, isUrgent),
  ], session.signal);
  if (failure !== undefined && externalIp === "0.0.0.0") throw failure;
  return { entry, externalIp };
}

/**
 * What the list shows for an entry that should lead to a target, in case the device does not find its own entries, or
 * shows others in their place.
 */
export async function findEntry(
  session: IgdSession,
  service: IgdService,
  { key, target, entry }: {
    readonly key: PortMappingKey;
    readonly target: Pick<MappingRequest, "internal" | "protocol"> | undefined;
    readonly entry: ShownMapping["entry"];
  },
): Promise<ShownMapping["entry"]> {
  const isFound = entry === "unknown" ||
    entry !== undefined && (target === undefined || mayLeadHere(entry, target));
  if (isFound) return entry;
  const listed = (await tryList(session, service))?.find(({ protocol, externalPort }) =>
    protocol === key.protocol && externalPort === key.externalPort
  );
  return listed ?? entry;
}

/** The external address that a connection reports; `0.0.0.0` if it reports none. */
async function externalIpOf(
  session: IgdSession,
  service: IgdService,
  isUrgent = false,
): Promise<string> {
  try {
    const outcome = await tryCall(session, service, getExternalIpAddress(), { isUrgent });
    return outcome.kind === "done" ? outcome.value : "0.0.0.0";
  } catch (error) {
    session.signal?.throwIfAborted();
    if (error instanceof PunchlineError) return "0.0.0.0";
    throw error;
  }
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
    const action = cannot("map", this.#request);
    let answer: MappingEngineEvent | undefined;
    const answered = this.#answer?.then((event) => answer = event, () => answer = GONE) ??
      Promise.resolve(answer = GONE);
    try {
      for (const port of loose) {
        while (true) {
          const wasAnswered = answer !== undefined;
          const externalPort = answer?.kind === "answered" && answer.externalPort !== undefined
            ? answer.externalPort // of AddAnyPortMapping
            : port.externalPort;
          const attempt = { ...state.attempt, service: port.service, externalPort };
          const search = { attempt, isUrgent: !wasAnswered, hides: false };
          const seen = await this.#search(session, search);
          const isOurs = seen.kind === "here" || seen.kind === "hidden" && wasAnswered;
          if (isOurs) {
            const where = seen.kind === "here"
              ? { service: seen.service, externalPort: seen.entry.externalPort }
              : { service: port.service, externalPort };
            await deleteEntry(session, this.#services[where.service]!, {
              key: { protocol, externalPort: where.externalPort },
              target: this.#request,
              action,
              isUrgent: true,
            });
          }
          if (isOurs || wasAnswered) break;
          await Promise.race([answered, delay(CLOSE_PAUSE_MS, { signal })]);
        }
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

/** The service that has the mapping; the first one if it does not show its table. */
async function holdersOf(
  session: IgdSession,
  services: readonly IgdService[],
  { key, target }: Pick<ClosedMapping, "key" | "target">,
): Promise<readonly IgdService[]> {
  for (const [index, service] of services.entries()) {
    const shown = await tryReadEntry(session, service, { key });
    const entry = await findEntry(session, service, { key, target, entry: shown });
    const isOurs = entry === "unknown"
      ? index === 0
      : entry !== undefined && (target === undefined || mayLeadHere(entry, target));
    if (isOurs) return [service];
  }
  return [];
}

/** Deletes an entry, and looks whether it is gone: some devices confirm what they do not do, or do not confirm it. */
async function deleteEntry(
  session: IgdSession,
  service: IgdService,
  { key, target, action, isUrgent }: ClosedMapping & { readonly isUrgent?: boolean },
): Promise<void> {
  for (let tries = 1;; tries++) {
    const failure = await deleteOrLook(session, service, { key, isUrgent });
    if (failure === "gone") return;
    const entry = await tryReadEntry(session, service, { key, isUrgent });
    if (entry === undefined) return;
    const isConfirmed = failure === undefined || meansNoEntry(failure);
    if (entry === "unknown" && isConfirmed) return;
    const isOthers = entry !== "unknown" && target !== undefined && !mayLeadHere(entry, target);
    if (isOthers) return;
    if (tries < MAX_DELETES && failure?.kind !== "fault") {
      await delay(DELETE_PAUSE_MS, { signal: session.signal });
      continue;
    }
    throw failure === undefined
      ? new MappingRefusedError(`${action}: gateway ${session.gateway} keeps it in its table`, {
        mapper: "upnp",
        code: 0,
        reason: "it stays in the table",
        remedy: "Delete the mapping in the router",
      })
      : igdRefusal(failure, action, session.gateway);
  }
}

/** The answer to a deletion, or `"gone"` as soon as the entry is, although the deletion has not been answered. */
async function deleteOrLook(
  session: IgdSession,
  service: IgdService,
  { key, isUrgent }: { readonly key: PortMappingKey; readonly isUrgent?: boolean },
): Promise<IgdFailure | "gone" | undefined> {
  const first = optionalResolvers<IgdFailure | "gone" | undefined>();
  await using jobs = new TaskGroup(first.reject);
  const job = (run: (session: IgdSession) => Promise<void>) =>
    jobs.run((over) => {
      const { signal } = session;
      return run({ ...session, signal: signal ? AbortSignal.any([signal, over]) : over });
    });
  job(async (session) => first.resolve(await tryDelete(session, service, { key, isUrgent })));
  job(async (session) => {
    while (true) {
      await delay(DELETE_SILENCE_MS, { signal: session.signal });
      const entry = await tryReadEntry(session, service, { key, isUrgent: true });
      if (entry === undefined) return first.resolve("gone");
    }
  });
  return await first.promise;
}

async function tryDelete(
  session: IgdSession,
  service: IgdService,
  { key, isUrgent }: { readonly key: PortMappingKey; readonly isUrgent?: boolean },
): Promise<IgdFailure | undefined> {
  try {
    const outcome = await tryCall(session, service, deletePortMapping(key), { isUrgent });
    return outcome.kind === "done" ? undefined : outcome;
  } catch (error) {
    session.signal?.throwIfAborted();
    const failure = failureOf(error);
    if (failure === undefined) throw error;
    return failure;
  }
}

async function tryReadEntry(
  session: IgdSession,
  service: IgdService,
  options: { readonly key: PortMappingKey; readonly isUrgent?: boolean },
): Promise<PortMappingEntry | undefined | "unknown"> {
  try {
    return await readEntry(session, service, options);
  } catch (error) {
    session.signal?.throwIfAborted();
    if (error instanceof PunchlineError) return "unknown";
    throw error;
  }
}

async function tryList(
  session: IgdSession,
  service: IgdService,
): Promise<PortMappingEntry[] | undefined> {
  try {
    return await listEntries(session, service);
  } catch (error) {
    session.signal?.throwIfAborted();
    if (error instanceof PunchlineError) return undefined;
    throw error;
  }
}

/** Some devices answer with an empty entry in place of a fault. */
function isNoEntry({ internalClient, internalPort }: PortMappingEntry): boolean {
  return internalClient === "0.0.0.0" && internalPort === 0;
}

/** How a call failed; `undefined` if that is no fault of the device. */
function failureOf(error: unknown): IgdFailure | undefined {
  const problem = messageOf(error);
  if (error instanceof MalformedMessageError) return { kind: "garbled", problem };
  const isSilent = error instanceof NoResponseError || error instanceof NetworkError;
  return isSilent ? { kind: "unanswered", problem } : undefined;
}

/** At random, so that hosts behind one router do not try the same ports. */
function drawPorts(): number[] {
  const drawn = crypto.getRandomValues(new Uint16Array(OTHER_PORTS));
  return Array.from(drawn, (number) => FIRST_DYNAMIC_PORT + number % DYNAMIC_PORTS);
}

/** The answer to a request that is over without one. */
const GONE: MappingEngineEvent = {
  kind: "failed",
  failure: { kind: "unanswered", problem: "the request is over" },
};

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

/** Chosen by us: devices answer within a second, and the program may be ending. */
const DELETE_SILENCE_MS = 2000;

/** Chosen by us: an entry is read at once, or the device does not show it. */
const READ_TIMEOUT_MS = 3000;

/** Chosen by us: a device that does not delete a mapping twice never will. */
const MAX_DELETES = 2;
const DELETE_PAUSE_MS = 200;
