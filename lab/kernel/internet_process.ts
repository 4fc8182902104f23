/**
 * The internet process: creates the hosts of a plan, and carries their packets until its input ends. Started by
 * {@linkcode Lab}; control.ts describes its input and output.
 *
 * Everything happens on one thread, which waits for packets, for commands and for the next delivery with a single
 * `ppoll`. The event loop of a runtime would not be on time.
 *
 * @module
 */

import type { ControlCommand, ControlReady, ControlReply } from "./control.ts";
import { endPrograms, type HostNamespace, openHost } from "./host_namespace.ts";
import { LabInternet } from "./internet.ts";
import { isReadable, type Libc, openLibc, pollDescriptors } from "./libc.ts";
import { LineReader } from "./lines.ts";
import { pcapHeader, pcapRecord } from "./pcap.ts";
import type { LabPlan } from "./topology.ts";

/** Carries packets between TUN devices as a {@linkcode LabInternet} directs. */
class InternetProcess {
  readonly #libc: Libc;
  readonly #lines: LineReader;
  #hosts: readonly HostNamespace[] = [];
  #trace: Deno.FsFile | undefined;
  readonly #buffer = new Uint8Array(MAX_PACKET_BYTES);

  constructor(libc: Libc) {
    this.#libc = libc;
    this.#lines = new LineReader(libc, STDIN);
  }

  run(): void {
    const plan = this.#receivePlan();
    if (plan === undefined) return;
    try {
      this.#hosts = plan.hosts.map((host) => openHost(this.#libc, host));
      const namespaces = this.#hosts.map(({ name, namespace }) => [name, namespace]);
      send({ pid: Deno.pid, namespaces: Object.fromEntries(namespaces) });
      this.#carry(plan);
    } finally {
      endPrograms(this.#hosts);
    }
  }

  #receivePlan(): LabPlan | undefined {
    const input = pollDescriptors([STDIN]);
    while (!this.#lines.ended) {
      this.#libc.ppoll(input, undefined);
      const [line] = this.#lines.read();
      if (line !== undefined) return JSON.parse(line) as LabPlan;
    }
    return undefined;
  }

  #carry(plan: LabPlan): void {
    const tuns = new Map(this.#hosts.map(({ name, tun }) => [name, tun]));
    const internet = new LabInternet(plan, (host, bytes) => {
      this.#record(bytes);
      return this.#libc.write(tuns.get(host)!, bytes) === bytes.length;
    });
    const descriptors = pollDescriptors([STDIN, ...tuns.values()]);
    this.#libc.setTimerSlack(1);
    this.#libc.setNice(NICE); // if this is refused, packets are late only while programs use all cores
    while (!this.#lines.ended) {
      const { nextDueMs } = internet;
      const waitMs = nextDueMs === undefined
        ? undefined
        : Math.max(0, nextDueMs - performance.now());
      const ready = this.#libc.ppoll(descriptors, waitMs);
      internet.advance(performance.now());
      if (ready <= 0) continue;
      for (const [index, host] of this.#hosts.entries()) {
        if (isReadable(descriptors, index + 1)) this.#readPackets(host, internet);
      }
      if (isReadable(descriptors, 0)) {
        for (const line of this.#lines.read()) {
          send(this.#answer(JSON.parse(line) as ControlCommand, internet));
        }
      }
    }
  }

  #readPackets(host: HostNamespace, internet: LabInternet): void {
    for (let i = 0; i < BATCH; i++) {
      const length = this.#libc.read(host.tun, this.#buffer);
      if (length <= 0) return;
      const bytes = this.#buffer.slice(0, length);
      this.#record(bytes);
      internet.send(host.name, bytes, performance.now());
    }
  }

  #answer(request: ControlCommand, internet: LabInternet): ControlReply {
    try {
      switch (request.command) {
        case "set-behavior":
          internet.setBehavior(request.nat, request.behavior);
          break;
        case "flush":
          internet.flush(request.nat, request.family);
          break;
        case "renumber":
          internet.renumber(request.nat);
          break;
        case "set-link":
          internet.setLink(request.place, request.link);
          break;
        case "outage": {
          const fromMs = performance.now() + request.afterMs;
          internet.outage(request.place, fromMs, fromMs + request.forMs);
          break;
        }
        case "block":
          internet.block(request.place, request.protocols);
          break;
        case "counters":
          return { ok: true, counters: internet.counters() };
        case "trace":
          this.#startTrace(request.path);
          break;
      }
      return { ok: true };
    } catch (error) {
      return { ok: false, message: error instanceof Error ? error.message : String(error) };
    }
  }

  #startTrace(path: string | undefined): void {
    this.#trace?.close();
    this.#trace = path === undefined
      ? undefined
      : Deno.openSync(path, { write: true, create: true, truncate: true });
    this.#trace?.writeSync(pcapHeader());
  }

  #record(bytes: Uint8Array): void {
    this.#trace?.writeSync(pcapRecord(bytes, performance.timeOrigin + performance.now()));
  }
}

function send(message: ControlReady | ControlReply): void {
  Deno.stdout.writeSync(new TextEncoder().encode(`${JSON.stringify(message)}\n`));
}

const STDIN = 0;

/** Chosen by us: ahead of all programs in the hosts, because it needs little time and must not be late. */
const NICE = -15;

/** More than the largest packet of a TUN device with an MTU of 1500. */
const MAX_PACKET_BYTES = 2048;

/** How many packets to read from one host before the next host's turn. */
const BATCH = 64;

if (import.meta.main) {
  // A terminal sends Ctrl-C to all programs at once. This one must outlive the others to clean up after them.
  for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) {
    Deno.addSignalListener(signal, () => {});
  }
  using libc = openLibc();
  new InternetProcess(libc).run();
  Deno.exit();
}
