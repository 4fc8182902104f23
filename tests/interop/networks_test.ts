// What `nat-test`, `doctor`, `connect` and `listen` say in networks that carry less than they need. Each is a host with a kernel of
// its own behind a router, made by nftables, with a STUN server and a rendezvous beyond it:
//
//   home, 203.0.113.2 ── eth0 ─────── 203.0.113.1, world: 198.51.100.9 and .10
//
// The cause has to be named first, with what to do, within five seconds of the start of the program.

import { assert, assertEquals } from "@std/assert";
import { labTest } from "../lab/lab_test_case.ts";
import { encodeTicket } from "../../lib/peer/ticket.ts";
import { NetworkPlace, wire } from "./network_place.ts";

interface NetworkCase {
  /** What it is like. */
  readonly what: string;
  /** Commands that make it so, in the world and at home. */
  readonly world?: string;
  readonly home?: string;
  /** The file with the name servers, and whether servers are given by name. Default: by address. */
  readonly resolvConf?: string;
  /** The name of the interface at home. Default: eth0. */
  readonly interfaceName?: string;
  /** What answers in the world on port 80. */
  readonly hasPortal?: boolean;
  /** The first of the findings of nat-test, and the verdict. */
  readonly natTest: readonly [kind: string, difficulty: string];
  /** The first of the findings of doctor. Default: as nat-test. */
  readonly doctor?: string;
  /** The first finding of connect and listen; `null` if they work. */
  readonly peer: string | null;
}

const input = (rules: string) => `
  nft -f - <<'END'
table inet filter {
  chain input {
    type filter hook input priority 0;
    iifname "lo" accept
    ${rules}
  }
}
END`;

const CASES: readonly NetworkCase[] = [
  { what: "all is well", natTest: ["none", "open"], peer: null },
  {
    what: "there is no network",
    home: "ip addr flush dev eth0",
    natTest: ["offline", "offline"],
    peer: "offline",
  },
  {
    what: "there is no route",
    home: "ip route del default",
    natTest: ["offline", "offline"],
    peer: "offline",
  },
  {
    what: "UDP is blocked",
    world: input("udp dport 1-65535 drop"),
    natTest: ["udp-blocked", "blocked"],
    peer: null,
  },
  {
    what: "everything is dropped",
    world: input("drop"),
    natTest: ["blocked", "blocked"],
    peer: "blocked",
  },
  {
    what: "everything is rejected",
    world: input("reject with icmp type admin-prohibited"),
    natTest: ["blocked", "blocked"],
    peer: "blocked",
  },
  {
    what: "only port 443 is let through",
    world: input("tcp dport 443 accept\n drop"),
    natTest: ["web-only", "blocked"],
    peer: "web-only",
  },
  {
    what: "there is a captive portal",
    world: input("tcp dport 80 accept\n drop"),
    hasPortal: true,
    natTest: ["captive-portal", "blocked"],
    peer: "captive-portal",
  },
  {
    what: "name servers are silent",
    world: input("udp dport 53 drop"),
    resolvConf: "nameserver 198.51.100.9",
    natTest: ["dns", "blocked"],
    peer: "dns",
  },
  {
    what: "the name server refuses",
    resolvConf: "nameserver 198.51.100.9",
    natTest: ["dns", "blocked"],
    peer: "dns",
  },
  { what: "there is no name server", resolvConf: "", natTest: ["dns", "blocked"], peer: "dns" },
  {
    what: "a VPN swallows everything",
    interfaceName: "wg0",
    world: input("drop"),
    natTest: ["blocked", "blocked"],
    peer: "blocked",
  },
  {
    what: "long packets vanish",
    world: input("meta length > 1400 drop"),
    natTest: ["none", "open"],
    doctor: "mtu",
    peer: null,
  },
  {
    what: "this machine's firewall refuses",
    home:
      `nft add table inet f; nft "add chain inet f o { type filter hook output priority 0; policy drop; }"`,
    natTest: ["local-firewall", "blocked"],
    peer: "local-firewall",
  },
];

for (const each of CASES) {
  labTest(`the cause is named where ${each.what}`, async () => {
    await using scene = await Scene.open(each);
    const natTest = await scene.natTest();
    const [kind = "none"] = natTest.findings.map((finding) => finding.kind);
    assertEquals([kind, natTest.difficulty], each.natTest);
    const limitMs = LIMIT_MS + scene.startMs;
    assert(natTest.ms <= limitMs, `nat-test took ${natTest.ms} ms, of ${limitMs}`);
    const doctor = await scene.doctor();
    assertEquals(doctor.kind, each.doctor ?? each.natTest[0], "doctor");
    assert(doctor.ms <= limitMs, `doctor took ${doctor.ms} ms, of ${limitMs}`);
    for (const command of ["connect", "listen"] as const) {
      const found = await scene.firstFinding(command, each.peer === null ? 2500 : 8000);
      assertEquals(found?.kind ?? null, each.peer, command);
      if (found === undefined) continue;
      assert(found.remedy.length > 10);
      assert(found.ms <= limitMs, `${command} took ${found.ms} ms, of ${limitMs}`);
    }
  });
}

interface Finding {
  readonly kind: string;
  readonly summary: string;
  readonly remedy: string;
}

class Scene implements AsyncDisposable {
  readonly #home: NetworkPlace;
  readonly #world: NetworkPlace;
  readonly #resolvConf: string | undefined;
  readonly #hasNames: boolean;
  /** How long a command takes that does nothing. */
  startMs = 0;

  private constructor(home: NetworkPlace, world: NetworkPlace, each: NetworkCase, file?: string) {
    this.#home = home;
    this.#world = world;
    this.#resolvConf = file;
    this.#hasNames = each.resolvConf !== undefined;
  }

  static async open(each: NetworkCase): Promise<Scene> {
    const home = await NetworkPlace.open("home");
    const world = await NetworkPlace.open("world", home);
    const name = each.interfaceName ?? "eth0";
    await wire({ place: home, name }, { place: world, name: "eth0" });
    await world.sh(`
      ip addr add 203.0.113.1/24 dev eth0
      ip addr add 198.51.100.9/32 dev lo
      ip addr add 198.51.100.10/32 dev lo`);
    await home.sh(`ip addr add 203.0.113.2/24 dev ${name}; ip route add default via 203.0.113.1`);
    let file: string | undefined;
    if (each.resolvConf !== undefined) {
      file = await Deno.makeTempFile();
      await Deno.writeTextFile(file, each.resolvConf);
    }
    const scene = new Scene(home, world, each, file);
    const serve = ["serve", "--address", "198.51.100.9", "--alternate", "198.51.100.10"];
    await world.serve(Deno.execPath(), [...CLI, ...serve], { ready: /rendezvous/i });
    if (each.hasPortal) await world.serve(Deno.execPath(), ["eval", PORTAL], { ready: /ready/ });
    if (each.world !== undefined) await world.sh(each.world);
    if (each.home !== undefined) await home.sh(each.home);
    const startedAt = performance.now();
    await scene.#run(["--version"]).output();
    scene.startMs = performance.now() - startedAt;
    return scene;
  }

  async natTest(): Promise<{ findings: Finding[]; difficulty: string; ms: number }> {
    const host = this.#hasNames ? "stun.example.net" : "198.51.100.9";
    const startedAt = performance.now();
    const { stdout, stderr } = await this.#run(["nat-test", "--server", host, "--json"]).output();
    const ms = performance.now() - startedAt;
    const text = new TextDecoder().decode(stdout);
    if (text === "") throw new Error(new TextDecoder().decode(stderr));
    const { findings, verdict } = JSON.parse(text);
    return { findings, difficulty: verdict.difficulty, ms };
  }

  async doctor(): Promise<{ kind: string; ms: number }> {
    const [stun, meet] = this.#hasNames
      ? ["stun.example.net", "rendezvous.example.net"]
      : ["198.51.100.9", "198.51.100.9"];
    const args = ["doctor", "--server", stun!, "--rendezvous", `ws://${meet}:3480`, "--json"];
    const startedAt = performance.now();
    const { stdout, stderr } = await this.#run(args).output();
    const ms = performance.now() - startedAt;
    const text = new TextDecoder().decode(stdout);
    if (text === "") throw new Error(new TextDecoder().decode(stderr));
    const [first] = JSON.parse(text).findings;
    return { kind: first?.kind ?? "none", ms };
  }

  /** The first finding that a command tells of, if it does so in time. */
  async firstFinding(
    command: "connect" | "listen",
    waitMs: number,
  ): Promise<Finding & { readonly ms: number } | undefined> {
    const host = this.#hasNames ? "rendezvous.example.net" : "198.51.100.9";
    const rendezvous = `ws://${host}:3480`;
    const ticket = encodeTicket({
      publicKey: new Uint8Array(32).fill(9),
      secret: new Uint8Array(16).fill(1),
      signaling: [rendezvous],
    });
    const args = [command, ...command === "connect" ? [ticket] : [], "--rendezvous", rendezvous];
    const startedAt = performance.now();
    const child = this.#run([...args, "--json"]);
    const timer = setTimeout(() => child.kill("SIGKILL"), waitMs + this.startMs);
    let found: Finding & { ms: number } | undefined;
    let text = "";
    for await (const part of child.stderr.pipeThrough(new TextDecoderStream())) {
      text += part;
      const [line] = /^\{"event":"finding".*\}$/m.exec(text) ?? [];
      if (line === undefined) continue;
      found = { ...JSON.parse(line) as Finding, ms: performance.now() - startedAt };
      break;
    }
    clearTimeout(timer);
    try {
      child.kill("SIGKILL");
    } catch (error) {
      if (!(error instanceof TypeError)) throw error; // it has ended
    }
    await child.stdout.cancel();
    await child.status;
    return found;
  }

  #run(args: readonly string[]): Deno.ChildProcess {
    const command = [Deno.execPath(), ...CLI, ...args];
    const options = { stdin: "null", stdout: "piped", stderr: "piped" } as const;
    if (this.#resolvConf === undefined) {
      return this.#home.spawn(command[0]!, command.slice(1), options);
    }
    const script = `mount --bind ${this.#resolvConf} /etc/resolv.conf && exec "$@"`;
    return this.#home.spawn("unshare", ["--mount", "sh", "-ec", script, "sh", ...command], options);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#home[Symbol.asyncDispose]();
    await this.#world[Symbol.asyncDispose]();
    if (this.#resolvConf !== undefined) await Deno.remove(this.#resolvConf);
  }
}

const CLI = ["run", "-A", new URL("../../cli.ts", import.meta.url).pathname];

const PORTAL = `
  const location = "http://login.hotel.example/";
  Deno.serve({ hostname: "198.51.100.9", port: 80, onListen: () => console.log("ready") }, () =>
    new Response(null, { status: 302, headers: { location } }));
`;

const LIMIT_MS = 5000;
