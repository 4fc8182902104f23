/**
 * A lab in which peers behind any kind of NAT connect to each other, with a rendezvous, STUN, a broker and a TURN server.
 *
 * ```text
 * a, aPublic, aOffice --- internet --- b, bPublic, bOffice
 *                          |     |
 *                    servers     relay (coturn)
 * ```
 *
 * @module
 */

import type { PeerOptions } from "../../../lib/peer/options.ts";
import { Lab } from "../../kernel/lab.ts";
import { type InternetSpec, type LinkSpec, nat, type Topology } from "../../kernel/topology.ts";
import { NAT_KINDS, type NatKind, type NatKindName, reportOf } from "../punches/nat_kinds.ts";
import { STUN_SERVERS } from "../verdicts/stun_servers.ts";
import { PeerProgram } from "./peer_program.ts";
import type { PeerResult } from "./peer_runner.ts";

/** How one connection is made. */
export interface ConnectPairOptions {
  /** Differences for both sides; without a TURN server unless given here. */
  readonly options?: PeerOptions;
  /** How long both peers are open before. 1500 unless given: punch ports are ready by then. */
  readonly warmMs?: number;
  /** How long to wait for a direct path where the first goes by a relay. */
  readonly waitForDirectMs?: number;
}

/** How the lab is built. */
export interface PeerLabOptions {
  readonly internet: InternetSpec;
  /** Of the servers, beside the internet's own. */
  readonly serverLink?: LinkSpec;
  /** Of the NATs `a/nat` and `b/nat`. */
  readonly natLink?: LinkSpec;
  /** Other hosts, instead of those of the NAT kinds. */
  readonly hosts?: Topology["hosts"];
}

/** A running lab. */
export class PeerLab implements AsyncDisposable {
  readonly lab: Lab;
  readonly #programs = new Map<string, PeerProgram>();

  private constructor(lab: Lab) {
    this.lab = lab;
  }

  /** Starts it, with its servers. */
  static async start(options: PeerLabOptions): Promise<PeerLab> {
    const { internet, serverLink, natLink } = options;
    const link = serverLink === undefined ? {} : { link: serverLink };
    const home = () => nat("portRestricted", natLink === undefined ? {} : { link: natLink });
    const lab = await Lab.start({
      hosts: {
        servers: { addresses: [...SERVER_IPS], ...link },
        relay: { addresses: [RELAY_IP], ...link },
        ...options.hosts ?? {
          a: { behind: home() },
          b: { behind: home() },
          aOffice: { behind: nat("firewall") },
          bOffice: { behind: nat("firewall") },
          aPublic: {},
          bPublic: {},
        },
      },
      internet,
    });
    await STUN_SERVERS.ours(lab.host("servers"));
    await startBroker(lab);
    await lab.host("relay").serve("turnserver", [
      ...["-n", "--no-cli", "--no-tls", "--no-dtls", "--log-file", "stdout", "-L", RELAY_IP],
      ...["--listening-port", `${RELAY_PORT}`, "--lt-cred-mech", "-u", "someone:secret"],
      ...["-r", "example.org", "--pidfile", "/dev/null"],
    ], { ready: /Total General servers/, stderr: "null" });
    return new PeerLab(lab);
  }

  /** Connects two kinds, the first of which has the ticket. */
  async connectKinds(
    kinds: readonly [NatKindName, NatKindName],
    options: ConnectPairOptions = {},
  ): Promise<PeerResult> {
    const [a, b] = await Promise.all([
      this.#place("a", NAT_KINDS[kinds[0]]),
      this.#place("b", NAT_KINDS[kinds[1]]),
    ]);
    const reports = kinds.map((kind) => reportOf(NAT_KINDS[kind]) as PeerOptions["report"]);
    return await this.connect([a, b], options, reports);
  }

  /** Connects two hosts by their names; two programs in one host if they are the same. */
  async connect(
    [a, b]: readonly [string, string],
    { options = {}, warmMs = 1500, waitForDirectMs = 0 }: ConnectPairOptions = {},
    reports: readonly PeerOptions["report"][] = [],
  ): Promise<PeerResult> {
    const common: PeerOptions = {
      signaling: [RENDEZVOUS_URL],
      servers: STUN_ADDRESSES,
      mapPorts: false,
      ...options,
    };
    const [caller, listener] = [this.#program(a, "caller"), this.#program(b, "listener")];
    const [, ticket] = await Promise.all([
      caller.open({ ...common, ...reports[0] && { report: reports[0] } }),
      listener.open({ ...common, ...reports[1] && { report: reports[1] } }),
    ]);
    await new Promise((resolve) => setTimeout(resolve, warmMs));
    const result = await caller.do({ command: "connect", ticket, waitForDirectMs });
    await Promise.all([caller, listener].map((program) => program.do({ command: "close" })));
    return result;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all(Array.from(this.#programs.values(), (program) => program.close()));
    await this.lab[Symbol.asyncDispose]();
  }

  async #place(end: "a" | "b", kind: NatKind): Promise<string> {
    const host = { nat: end, firewall: `${end}Office`, public: `${end}Public` }[kind.place];
    if (kind.place === "public") return host;
    const box = this.lab.nat(`${host}/nat`);
    await box.setBehavior(kind.behavior);
    await box.flush();
    return host;
  }

  #program(host: string, part: string): PeerProgram {
    const key = `${host} ${part}`;
    const program = this.#programs.get(key) ?? new PeerProgram(this.lab.host(host));
    this.#programs.set(key, program);
    return program;
  }
}

/** The configuration is read once. */
async function startBroker(lab: Lab): Promise<void> {
  const path = await Deno.makeTempFile({ prefix: "broker-" });
  try {
    const [address, port] = [SERVER_IPS[0], BROKER_PORT];
    const lines = [`listener ${port} ${address}`, "allow_anonymous true", "log_dest stderr"];
    await Deno.writeTextFile(path, `${lines.join("\n")}\nuser root\nset_tcp_nodelay true\n`);
    await lab.host("servers").serve("sh", ["-c", `exec mosquitto -c ${path} 2>&1`], {
      ready: /running/,
    });
  } finally {
    await Deno.remove(path);
  }
}

const SERVER_IPS = ["203.0.113.10", "203.0.113.11"];
const RELAY_IP = "203.0.113.20";

/** A port that firewalls let out to. */
const RELAY_PORT = 443;

/** The rendezvous of the lab. */
export const RENDEZVOUS_URL = `ws://${SERVER_IPS[0]}:3480`;

const BROKER_PORT = 1883;

/** The MQTT broker of the lab. */
export const BROKER_URL = `mqtt://${SERVER_IPS[0]}:${BROKER_PORT}`;

/** STUN servers of the lab. */
export const STUN_ADDRESSES = [SERVER_IPS[0]!, `${SERVER_IPS[1]}:3479`];

/** The TURN server of the lab. */
export const TURN_URL = `turn:someone:secret@${RELAY_IP}:${RELAY_PORT}`;
