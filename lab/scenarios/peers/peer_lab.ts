/**
 * A lab for peers behind any kind of NAT, with rendezvous, STUN, MQTT and TURN servers.
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
import { denoArgs } from "../../kernel/lab_host.ts";
import { type InternetSpec, type LinkSpec, nat, type Topology } from "../../kernel/topology.ts";
import { type NatKind, natKind, type NatKindName, POOLS, reportOf } from "../punches/nat_kinds.ts";
import { STUN_SERVERS } from "../verdicts/stun_servers.ts";
import { PeerProgram } from "./peer_program.ts";
import type { PeerResult } from "./peer_runner.ts";

/** How one connection is made. */
export interface ConnectPairOptions {
  /** Options of both peers. Without `turn` there is no relay. */
  readonly options?: PeerOptions;
  /** How long both peers are open before the call. Default: 1500, when base sockets are ready. */
  readonly warmMs?: number;
  /** Whether both sides have NAT test reports, if they are placed behind kinds of NAT. Default: true. */
  readonly isReported?: boolean;
  /** How long to wait for a direct path if the first path is a relay. */
  readonly waitForDirectMs?: number;
  /** Whether the calling peer listens, too. Default: true. */
  readonly callerListens?: boolean;
}

/** Two open peers, which disposal closes. */
export interface PeerPair extends AsyncDisposable {
  /** Connects the first to the second. */
  connect(waitForDirectMs?: number): Promise<PeerResult>;
  /** The same, and watches the connection. */
  watch(options: { readonly forMs: number; readonly isBusy: boolean }): Promise<PeerResult>;
}

/** What the lab consists of. */
export interface PeerLabOptions {
  readonly internet: InternetSpec;
  /**
   * Whether all hosts have IPv6 as well. The STUN servers and the relay have IPv4 alone; there is a second rendezvous server,
   * {@linkcode RENDEZVOUS_URL_IPV6}.
   */
  readonly ipv6?: boolean;
  /** The servers' link, in addition to the internet's delay. */
  readonly serverLink?: LinkSpec;
  /** The link of the NATs `a/nat` and `b/nat`. */
  readonly natLink?: LinkSpec;
  /** Hosts in place of those for the NAT kinds. */
  readonly hosts?: Topology["hosts"];
}

/** A running lab. */
export class PeerLab implements AsyncDisposable {
  readonly lab: Lab;
  readonly #programs = new Map<string, PeerProgram>();

  private constructor(lab: Lab) {
    this.lab = lab;
  }

  /** Starts the lab and its servers. */
  static async start(options: PeerLabOptions): Promise<PeerLab> {
    const { internet, serverLink, natLink, ipv6 } = options;
    const home = (end: "a" | "b") =>
      nat("portRestricted", { link: natLink, addresses: POOLS[end] });
    const lab = await Lab.start({
      hosts: {
        servers: {
          addresses: [...SERVER_IPS, ...ipv6 ? [SERVER_IPV6] : []],
          link: serverLink,
        },
        relay: { addresses: [RELAY_IP], link: serverLink },
        ...options.hosts ?? {
          a: { behind: home("a") },
          b: { behind: home("b") },
          aOffice: { behind: nat("firewall") },
          bOffice: { behind: nat("firewall") },
          aPublic: {},
          bPublic: {},
        },
      },
      internet,
      ipv6,
    });
    await STUN_SERVERS.punchline(lab.host("servers"));
    if (ipv6) {
      const args = denoArgs(CLI, ["serve", "--address", SERVER_IPV6, "--json"]);
      await lab.host("servers").serve(Deno.execPath(), args, { ready: /listening/ });
    }
    await startBroker(lab);
    await lab.host("relay").serve("turnserver", [
      ...["-n", "--no-cli", "--no-tls", "--no-dtls", "--log-file", "stdout", "-L", RELAY_IP],
      ...["--listening-port", `${RELAY_PORT}`, "--lt-cred-mech", "-u", "someone:secret"],
      ...["-r", "example.org", "--pidfile", "/dev/null"],
    ], { ready: /Total General servers/, stderr: "null" });
    return new PeerLab(lab);
  }

  /** Connects two kinds of NAT. The first side has the ticket. */
  async connectKinds(
    kinds: readonly [NatKindName, NatKindName],
    options: ConnectPairOptions = {},
  ): Promise<PeerResult> {
    const [a, b] = await Promise.all([
      this.#place("a", natKind(kinds[0])),
      this.#place("b", natKind(kinds[1])),
    ]);
    const { isReported = true } = options;
    const reports = isReported
      ? kinds.map((kind) => reportOf(natKind(kind)) as PeerOptions["report"])
      : [];
    return await this.connect([a, b], options, reports);
  }

  /** Connects two hosts by their names, or two programs in one host if the names are the same. */
  async connect(
    hosts: readonly [string, string],
    options: ConnectPairOptions = {},
    reports: readonly PeerOptions["report"][] = [],
  ): Promise<PeerResult> {
    const { warmMs = 1500, waitForDirectMs } = options;
    await using pair = await this.open(hosts, options, reports);
    await new Promise((resolve) => setTimeout(resolve, warmMs));
    return await pair.connect(waitForDirectMs);
  }

  /** Opens a peer in each of two hosts. */
  async open(
    [a, b]: readonly [string, string],
    { options = {}, callerListens }: Pick<ConnectPairOptions, "options" | "callerListens"> = {},
    reports: readonly PeerOptions["report"][] = [],
  ): Promise<PeerPair> {
    const common: PeerOptions = {
      signaling: [RENDEZVOUS_URL],
      servers: STUN_ADDRESSES,
      mapPorts: false,
      ...options,
    };
    const [caller, listener] = [this.#program(a, "caller"), this.#program(b, "listener")];
    const [, ticket] = await Promise.all([
      caller.open({ ...common, report: reports[0], listen: callerListens }),
      listener.open({ ...common, report: reports[1] }),
    ]);
    return {
      connect: (waitForDirectMs = 0) => caller.do({ command: "connect", ticket, waitForDirectMs }),
      watch: (options) => caller.do({ command: "watch", ticket, ...options }),
      [Symbol.asyncDispose]: async () => {
        await Promise.all([caller, listener].map((program) => program.do({ command: "close" })));
      },
    };
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

/** Starts the MQTT broker, which reads its configuration only once. */
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

const CLI = new URL("../../../cli.ts", import.meta.url);

const SERVER_IPS = ["203.0.113.10", "203.0.113.11"];
const SERVER_IPV6 = "2001:db8:ffff::10";
const RELAY_IP = "203.0.113.20";

/** A port that firewalls usually allow. */
const RELAY_PORT = 443;

/** The lab's rendezvous server. */
export const RENDEZVOUS_URL = `ws://${SERVER_IPS[0]}:3480`;

/** The one with IPv6 alone, in labs that have IPv6. */
export const RENDEZVOUS_URL_IPV6 = `ws://[${SERVER_IPV6}]:3480`;

const BROKER_PORT = 1883;

/** The lab's MQTT broker. */
export const BROKER_URL = `mqtt://${SERVER_IPS[0]}:${BROKER_PORT}`;

/** The lab's STUN servers. */
export const STUN_ADDRESSES = [SERVER_IPS[0]!, `${SERVER_IPS[1]}:3479`];

/** The lab's TURN server. */
export const TURN_URL = `turn:someone:secret@${RELAY_IP}:${RELAY_PORT}`;
