/**
 * Carries out the connectivity checks of a punch by UDP: sends and answers probes, and opens a path over the pair of
 * addresses that both sides agree on.
 *
 * PROBE, ANSWER and NOMINATE are control packets of `lib/udp`, whose HMAC proves that the peer has sent them: the keys follow
 * from the keys in both offers. A datagram that was not made with them changes nothing, and none counts twice.
 *
 * @module
 */

import { hmac } from "../base/crypto.ts";
import { type ConnectionAttempt, NetworkError, undefinedIfMalformed } from "../base/errors.ts";
import { ResettableTimer } from "../base/timers.ts";
import {
  formatTransportAddress,
  ipFamily,
  ipScope,
  isSystemPort,
  sameTransportAddress,
  type TransportAddress,
  unwrapIp,
} from "../net/address.ts";
import type { Network } from "../net/network.ts";
import { type PathReceiver, UdpDemultiplexer } from "../udp/demultiplexer.ts";
import { type ControlPacket, decodeUdpPacket } from "../udp/packet_message.ts";
import { derivePathKeys, isAuthentic, type PathKeys, sealControl } from "../udp/path_keys.ts";
import { UdpConnection } from "../udp/udp_connection.ts";
import { dialContext, isAllowedTarget, localAddressTowards } from "./candidates.ts";
import type { DialBudget, DialTarget } from "./limits.ts";
import { AttemptRecord } from "./nomination.ts";
import type { PunchRole } from "./offer.ts";
import {
  acceptedKindOf,
  asUdpKind,
  type DirectPathKind,
  methodOf,
  type PathContext,
  pathKindOf,
} from "./path_kinds.ts";
import type { PunchPlan } from "./plan_types.ts";
import { bind, type UdpBaseSocket } from "./udp_base_socket.ts";
import { initialUdpChecksState, stepUdpChecks, udpChecksWakeAtMs } from "./udp_check_engine.ts";
import {
  type CheckValue,
  FIRST_FRESH_SOCKET,
  NOMINATION,
  type UdpChecksAction,
  type UdpChecksEvent,
  type UdpChecksState,
  type UdpNomination,
} from "./udp_check_types.ts";

/** What the checks need. */
export interface UdpChecksOptions {
  readonly network: Network;
  readonly role: PunchRole;
  /** Kept open until the checks and the path have ended. */
  readonly base: UdpBaseSocket;
  /** Known only to the two sides, and used for this attempt alone. */
  readonly secret: Uint8Array;
  readonly context: PathContext;
  /** What the peer may still make this host send. */
  readonly budget: DialBudget;
  /** Whether a punch by TCP runs beside it that is likely to succeed. */
  readonly hasRival: boolean;
  /** How long the peer may start after this side, because people carry the offers, in milliseconds. */
  readonly carryingMs: number;
  /** Called with a path. If the other side never confirms it, it is reset, and another one may follow. */
  readonly onPath: (path: UdpPath) => void;
  /** Called once both sides know the path. */
  readonly onConfirmed: () => void;
}

/** A path that both sides have agreed on. */
export interface UdpPath {
  readonly connection: UdpConnection;
  readonly kind: DirectPathKind;
  /** 32 bytes that only the two sides know, to bind other keys to this path. */
  readonly channelBinding: Uint8Array;
  readonly rttMs: number;
}

/** The connectivity checks of one plan. */
export class UdpChecks {
  /** Resolves once nothing more is sent or received. */
  readonly finished: Promise<void>;
  readonly #finished = Promise.withResolvers<void>();
  readonly #plan: PunchPlan;
  readonly #options: UdpChecksOptions;
  readonly #keys: PathKeys;
  readonly #hold = new DisposableStack();
  readonly #timer = new ResettableTimer(() => this.#dispatch({ kind: "time" }));
  readonly #sockets = new Map<number, Promise<OpenSocket | undefined>>();
  readonly #receivers = new Map<UdpDemultiplexer, PathReceiver>();
  readonly #records = new Map<string, AttemptRecord>();
  #state: UdpChecksState;
  #counter = 0;
  #startedAtMs = performance.now();
  #answeredMs: number | undefined;
  #unanswered: "abandoned" | "timed-out" = "timed-out";
  #path: { readonly connection: UdpConnection; readonly record: AttemptRecord } | undefined;

  constructor(plan: PunchPlan, options: UdpChecksOptions) {
    this.finished = this.#finished.promise;
    this.#plan = plan;
    this.#options = options;
    const { role, hasRival, carryingMs, secret, base } = options;
    this.#keys = derivePathKeys(label(secret, "udp checks"), role);
    this.#state = initialUdpChecksState(plan, { role, hasRival, carryingMs });
    this.#hold.use(base.hold());
    if (carryingMs > 0) this.#hold.use(base.keepAlive());
    for (const [id, demultiplexer] of base.sockets.entries()) {
      this.#sockets.set(id, Promise.resolve(this.#listen(id, demultiplexer)));
    }
  }

  /** Everything that was tried so far. */
  get attempts(): ConnectionAttempt[] {
    return Array.from(this.#records.values(), (record) => record.toAttempt());
  }

  /** How long after the start the first probe was answered, in milliseconds; `undefined` before. */
  get answeredMs(): number | undefined {
    return this.#answeredMs;
  }

  /** The shortest round trip over a pair that works, on the controlling side; `undefined` if none is known. */
  get rttMs(): number | undefined {
    const { valid, options } = this.#state;
    return options.role === "controlled" || valid.length === 0
      ? undefined
      : Math.min(...valid.map(({ rttMs }) => rttMs));
  }

  /** Starts; see `finished`. */
  start(): void {
    this.#startedAtMs = performance.now();
    this.#dispatch({ kind: "started" });
  }

  /** A dial over TCP has connected: it gets a moment to prove itself. */
  onRival(): void {
    this.#dispatch({ kind: "rival" });
  }

  /**
   * Ends the checks. A path that was handed over is not touched.
   *
   * @param outcome of what is still unanswered: `"abandoned"` if a path by TCP was found first
   */
  stop(outcome: "abandoned" | "timed-out" = "timed-out"): void {
    this.#unanswered = outcome;
    this.#dispatch({ kind: "stopped" });
  }

  #dispatch(event: UdpChecksEvent, received?: Received): void {
    if (this.#state.phase === "over") return;
    const { state, actions } = stepUdpChecks(this.#state, event, performance.now());
    this.#state = state;
    for (const action of actions) this.#perform(action, received);
    const atMs = udpChecksWakeAtMs(this.#state);
    if (atMs === Infinity) this.#timer.clear();
    else this.#timer.set(Math.max(0, atMs - performance.now()));
    if (state.phase === "over") void this.#end();
  }

  #perform(action: UdpChecksAction, received: Received | undefined): void {
    switch (action.kind) {
      case "probe":
        return void this.#probe(action.check, action.index, action.isTriggered);
      case "answer":
        return void this.#send(received!.socket, received!.from, "answer", received!.packet.value);
      case "nominate": {
        const { socket, remote, index } = this.#state.nomination!;
        return void this.#send(socket, remote, "nominate", encode({ check: NOMINATION, index }));
      }
      case "acknowledge": {
        const { socket, remote, index } = this.#state.nomination!;
        return void this.#send(socket, remote, "answer", encode({ check: NOMINATION, index }));
      }
      case "found":
        return void this.#open(this.#state.nomination!);
      case "confirmed":
        if (action.isLate) this.#path?.connection.resend();
        return this.#options.onConfirmed();
      case "lost":
        this.#path?.record.end("timed-out");
        this.#path?.connection.reset();
        this.#path = undefined;
    }
  }

  async #probe(check: number, index: number, isTriggered: boolean): Promise<void> {
    const { target, socket, entry } = this.#state.checks[check]!;
    const record = this.#recordOf(check);
    const isCovered = isTriggered ||
      this.#options.budget.take(this.#targetOf(target, entry), performance.now());
    if (isCovered) record.tried(formatTransportAddress(target), this.#localOf(check));
    const isSent = isCovered &&
      await this.#send(socket, target, "probe", encode({ check, index }));
    if (!isSent) this.#dispatch({ kind: "refused", check });
  }

  /** Sends a control packet; `false` if there is no socket for it. */
  async #send(
    id: number,
    to: TransportAddress,
    kind: "probe" | "answer" | "nominate",
    value: Uint8Array,
  ): Promise<boolean> {
    const open = await (this.#sockets.get(id) ?? this.#openSocket(id));
    if (open === undefined || this.#state.phase === "over" && kind !== "answer") return false;
    const counter = this.#counter++;
    const bytes = sealControl(this.#keys.send, { kind, counter, value });
    try {
      await open.demultiplexer.send(bytes, to);
    } catch (error) {
      if (!(error instanceof NetworkError)) throw error; // otherwise it is as good as lost
    }
    return true;
  }

  /** A fresh socket, unless this host has too many of them open. */
  #openSocket(id: number): Promise<OpenSocket | undefined> {
    const { network, budget: { sessions } } = this.#options;
    const open = async (): Promise<OpenSocket | undefined> => {
      if (id < FIRST_FRESH_SOCKET || !sessions.take()) return undefined;
      const { localPort } = this.#state.checks.find(({ socket }) => socket === id)!;
      try {
        const demultiplexer = new UdpDemultiplexer(await bind(network, localPort));
        return this.#listen(id, demultiplexer);
      } catch (error) {
        sessions.giveBack();
        if (error instanceof NetworkError) return undefined;
        throw error;
      }
    };
    const opening = open();
    this.#sockets.set(id, opening);
    return opening;
  }

  #listen(id: number, demultiplexer: UdpDemultiplexer): OpenSocket {
    const receiver: PathReceiver = {
      pathId: this.#keys.receive.pathId,
      onDatagram: (data, from) => this.#onDatagram(id, data, from),
      onSocketClosed: () => {
        if (id < FIRST_FRESH_SOCKET) this.stop();
      },
    };
    this.#receivers.set(demultiplexer, receiver);
    demultiplexer.add(receiver);
    return { id, demultiplexer };
  }

  #onDatagram(socket: number, data: Uint8Array, from: TransportAddress): void {
    const packet = undefinedIfMalformed(() => decodeUdpPacket(data));
    if (packet === undefined || !isCheck(packet) || !isAuthentic(this.#keys.receive, packet)) {
      return;
    }
    const received: Received = { socket, from, packet };
    const { counter } = packet;
    const value = decode(packet.value);
    const isAllowed = this.#isAllowed(from);
    switch (packet.kind) {
      case "probe":
        return this.#dispatch({ kind: "probe", socket, from, counter, isAllowed }, received);
      case "answer":
        this.#dispatch({ kind: "answer", socket, from, value }, received);
        if (this.#state.checks[value.check]?.phase === "valid") {
          this.#answeredMs ??= performance.now() - this.#startedAtMs;
        }
        return;
      case "nominate": {
        const { index } = value;
        const event = { kind: "nominate", socket, from, counter, isAllowed, index } as const;
        return this.#dispatch(event, received);
      }
    }
  }

  /** As for targets that are dialled, but the peer's NAT may have given it any port. */
  #isAllowed(from: TransportAddress): boolean {
    const { local, remote, facts } = this.#options.context;
    const context = dialContext(local, remote, facts);
    return isAllowedTarget(from, context) ||
      !isSystemPort(from.port) && isAllowedTarget({ ...from, port: remote.punchPort }, context);
  }

  #targetOf(target: TransportAddress, entry: number): DialTarget {
    const { remote, facts } = this.#options.context;
    return {
      address: { ip: unwrapIp(target.ip, facts?.nat64Prefixes), port: target.port },
      isExternal: target.ip === remote.profile.externalIp,
      isExpected: this.#plan.dials[entry]?.isExpected ?? false,
      isBirthday: this.#plan.method === "birthday",
      isDatagram: true,
    };
  }

  /** Opens the path over the nominated pair. */
  async #open({ socket, remote, index, rttMs }: UdpNomination): Promise<void> {
    const { role, secret, context, budget, base } = this.#options;
    const hold = base.hold();
    const open = await this.#sockets.get(socket);
    if (open === undefined) return hold[Symbol.dispose]();
    this.#path?.connection.reset(); // it was not confirmed
    const isPlanned = this.#plan.dials.some(({ targets }) =>
      targets.some((target) => sameTransportAddress(target, remote))
    );
    const kind = asUdpKind(
      isPlanned ? pathKindOf(remote, context) : acceptedKindOf(remote, context),
    );
    const { demultiplexer } = open;
    demultiplexer.localIp = localIpTowards(remote.ip, base);
    const connection = new UdpConnection(demultiplexer, {
      remote,
      keys: derivePathKeys(label(secret, `udp path ${index}`), role),
      rttMs,
    });
    const isFresh = socket >= FIRST_FRESH_SOCKET;
    connection.released.then(() => {
      hold[Symbol.dispose]();
      if (!isFresh) return;
      demultiplexer.close();
      budget.sessions.giveBack();
    });
    this.#sockets.set(socket, Promise.resolve({ ...open, isTaken: true }));
    budget.prove({ ip: unwrapIp(remote.ip, context.facts?.nat64Prefixes), port: remote.port });
    const record = this.#recordAt(remote, kind);
    const from = formatTransportAddress(demultiplexer.local);
    record.addCandidate(formatTransportAddress(remote), from);
    record.end("connected", from);
    this.#path = { connection, record };
    const channelBinding = label(secret, `udp channel binding ${index}`);
    this.#options.onPath({ connection, kind, channelBinding, rttMs });
  }

  /** Where a probe leaves from, as far as it is known. */
  #localOf(check: number): string | null {
    const { socket, target, localPort } = this.#state.checks[check]!;
    const { local } = this.#options.context;
    const port = socket < FIRST_FRESH_SOCKET ? local.punchPort : localPort;
    return localAddressTowards(target.ip, port, local);
  }

  #recordOf(check: number): AttemptRecord {
    const { entry, target } = this.#state.checks[check]!;
    const planned = this.#plan.dials[entry];
    const count = planned === undefined ? 1 : planned.targets.length * planned.perTarget;
    const kind = asUdpKind(pathKindOf(target, this.#options.context));
    if (count <= MAX_OWN_RECORDS) return this.#recordAt(target, kind);
    const remote = planned!.targets.length === 1
      ? formatTransportAddress(target)
      : `${planned!.targets.length} ports of ${target.ip}`;
    return this.#record(`entry ${entry}`, remote, kind);
  }

  #recordAt(target: TransportAddress, kind: DirectPathKind): AttemptRecord {
    const remote = formatTransportAddress(target);
    return this.#record(remote, remote, kind);
  }

  #record(id: string, remote: string, kind: DirectPathKind): AttemptRecord {
    const existing = this.#records.get(id);
    if (existing !== undefined) return existing;
    const record = new AttemptRecord(kind, remote, methodOf(kind, this.#plan.method), "udp");
    this.#records.set(id, record);
    return record;
  }

  async #end(): Promise<void> {
    this.#timer.clear();
    const outcome = this.#path === undefined ? this.#unanswered : "abandoned";
    for (const record of this.#records.values()) if (!record.isOver) record.end(outcome);
    for (const [demultiplexer, receiver] of this.#receivers) demultiplexer.remove(receiver);
    for (const [id, opening] of this.#sockets) {
      const open = await opening;
      if (id < FIRST_FRESH_SOCKET || open === undefined || open.isTaken) continue;
      open.demultiplexer.remove(this.#receivers.get(open.demultiplexer)!);
      open.demultiplexer.close();
      this.#options.budget.sessions.giveBack();
    }
    this.#hold.dispose();
    this.#finished.resolve();
  }
}

/** This host's address on the way to another one, as far as it is known: to its own it sends from there. */
function localIpTowards(ip: string, { description }: UdpBaseSocket): string | undefined {
  if (ipScope(ip) === "loopback") return ip;
  const hosts = description.candidates.filter(({ kind }) => kind === "host").map(({ address }) =>
    address.ip
  );
  return hosts.find((each) => ipFamily(each) === ipFamily(ip));
}

/** A socket of the checks; `isTaken` if a path owns it. */
interface OpenSocket {
  readonly id: number;
  readonly demultiplexer: UdpDemultiplexer;
  readonly isTaken?: boolean;
}

/** A control packet that was authenticated, and where it came from. */
interface Received {
  readonly socket: number;
  readonly from: TransportAddress;
  readonly packet: ControlPacket;
}

function isCheck(packet: { readonly kind: string }): packet is ControlPacket & {
  readonly kind: "probe" | "answer" | "nominate";
} {
  return packet.kind === "probe" || packet.kind === "answer" || packet.kind === "nominate";
}

function encode({ check, index }: CheckValue): Uint8Array {
  const bytes = new Uint8Array(8);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, check);
  view.setUint32(4, index);
  return bytes;
}

function decode(bytes: Uint8Array): CheckValue {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  return { check: view.getUint32(0), index: view.getUint32(4) };
}

function label(secret: Uint8Array, text: string): Uint8Array {
  return hmac("sha256", secret, new TextEncoder().encode(text));
}

/** An entry with more checks than this shares one record. Chosen by us, as for TCP. */
const MAX_OWN_RECORDS = 32;
