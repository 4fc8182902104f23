/**
 * A home router: miniupnpd on the kernel's own NAT.
 *
 * ```
 *   host                      router                          outside
 *   192.168.1.2    lan   lan0: 192.168.1.1                    44.0.0.9
 *   2600:1::2    --------      2600:1::1, fe80::1  ------     2600:2::9
 *                              wan0: 44.0.0.7, 2600:2::7
 * ```
 *
 * The external addresses are ordinary ones, because miniupnpd does not serve behind a private, reserved or
 * documentation address. They exist only in these namespaces.
 *
 * @module
 */

import { NetworkPlace, wire, wireWithDelay } from "./network_place.ts";

/** How to start it. */
export interface HomeRouterOptions {
  /** Further lines of miniupnpd's configuration. If an option occurs twice, the last one counts. */
  readonly config?: readonly string[];
  /** The router's external address; {@linkcode HOME_ROUTER}'s by default. */
  readonly external?: string;
  /** How long a packet takes from the host to the router, and as long back; 0 by default. */
  readonly lanDelayMs?: number;
}

/** The programs that it needs, for `labTest()`. */
export const HOME_ROUTER_PROGRAMS: readonly string[] = ["ip", "nft", "miniupnpd"];

/** Its addresses. */
export const HOME_ROUTER = {
  host: "192.168.1.2",
  gateway: "192.168.1.1",
  external: "44.0.0.7",
  outside: "44.0.0.9",
  host6: "2600:1::2",
  /** As hosts know their routers: link-local, with the host's interface. */
  gateway6: "fe80::1%lan",
  outside6: "2600:2::9",
} as const;

/** A router with a host behind it. Both run until they are disposed. */
export class HomeRouter implements AsyncDisposable {
  readonly host: NetworkPlace;
  readonly router: NetworkPlace;
  readonly outside: NetworkPlace;
  readonly #config: string;
  #daemon: Deno.ChildProcess | undefined;

  private constructor(
    places: Pick<HomeRouter, "host" | "router" | "outside">,
    config: readonly string[],
  ) {
    this.host = places.host;
    this.router = places.router;
    this.outside = places.outside;
    this.#config = config.map((line) => `${line}\n`).join("");
  }

  /**
   * Opens the namespaces and starts miniupnpd.
   *
   * @throws {Error} if the system does not allow it
   */
  static async start(options: HomeRouterOptions = {}): Promise<HomeRouter> {
    await using opened = new AsyncDisposableStack();
    const router = opened.use(await NetworkPlace.open("router"));
    const host = opened.use(await NetworkPlace.open("host", router));
    const outside = opened.use(await NetworkPlace.open("outside", router));
    const lan = [{ place: router, name: "lan0" }, { place: host, name: "lan" }] as const;
    if (options.lanDelayMs === undefined) await wire(...lan);
    else await wireWithDelay(...lan, options.lanDelayMs);
    await wire({ place: router, name: "wan0" }, { place: outside, name: "wan" });
    await router.sh(ROUTER_SETUP);
    await host.sh(HOST_SETUP);
    await outside.sh(OUTSIDE_SETUP);
    if (options.external !== undefined) {
      const prefix = options.external.replace(/\d+$/, "");
      await outside.sh(`ip addr add ${prefix}9/24 dev wan`);
      await router.sh(`
        ip addr del ${HOME_ROUTER.external}/24 dev wan0
        ip addr add ${options.external}/24 dev wan0
        ip route add default via ${prefix}9
      `);
    }
    const config = [...CONFIG, ...options.config ?? []];
    const home = new HomeRouter({ host, router, outside }, config);
    await home.startDaemon();
    opened.move();
    return home;
  }

  /** Starts miniupnpd, and waits until it serves. */
  async startDaemon(): Promise<void> {
    const daemon = this.router.spawn("unshare", ["--mount", "sh", "-c", START_QUIETLY], {
      stdin: "piped",
      stdout: "null",
      stderr: "null",
    });
    this.#daemon = daemon;
    const writer = daemon.stdin.getWriter();
    await writer.write(new TextEncoder().encode(this.#config));
    await writer.close();
    const waitForPort = `until ss -Hlun sport = :5351 | grep -q . ; do sleep 0.02; done`;
    await this.router.sh(`timeout 10 sh -c '${waitForPort}'`);
  }

  /**
   * Kills miniupnpd.
   *
   * @param options with `flush` its rules are gone as well, as after a power cut
   */
  async stopDaemon({ flush = false }: { readonly flush?: boolean } = {}): Promise<void> {
    this.#daemon?.kill("SIGKILL");
    await this.#daemon?.status;
    this.#daemon = undefined;
    if (flush) await this.flush();
  }

  /** Removes all rules behind miniupnpd's back. */
  async flush(): Promise<void> {
    await this.router.sh(CHAINS.map((chain) => `nft flush chain inet filter ${chain}`).join("\n"));
  }

  /** The rules of the mappings that are open now, one line each. */
  async rules(): Promise<string[]> {
    const listed = await this.router.sh(
      CHAINS.map((chain) => `nft list chain inet filter ${chain}`).join("\n"),
    );
    return listed.split("\n").map((line) => line.trim()).filter((line) =>
      line !== "" && !/^(table|chain|\})/.test(line)
    );
  }

  /** Ends everything. */
  async [Symbol.asyncDispose](): Promise<void> {
    for (const place of [this.host, this.outside, this.router]) await place[Symbol.asyncDispose]();
  }
}

/**
 * In the foreground miniupnpd logs everything that it does, which goes to the console if no syslog listens, slowly and
 * line by line. Nothing is on disk, so there is nothing to clean up.
 */
const START_QUIETLY = `
  if [ -e /dev/console ]; then mount --bind /dev/null /dev/console; fi
  exec miniupnpd -d -f /dev/stdin -P /dev/null
`;

const CHAINS = ["miniupnpd", "prerouting_miniupnpd", "postrouting_miniupnpd"];

const ROUTER_SETUP = `
  sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1
  ip addr add 192.168.1.1/24 dev lan0
  ip addr add 44.0.0.7/24 dev wan0
  ip addr add fe80::1/64 dev lan0
  ip addr add 2600:1::1/64 dev lan0
  ip addr add 2600:2::7/64 dev wan0
  ip route add default via 44.0.0.9
  nft -f - <<'RULES'
    table inet filter {
      chain miniupnpd {}
      chain prerouting_miniupnpd {}
      chain postrouting_miniupnpd {}
      chain forward {
        type filter hook forward priority 0; policy drop;
        ct state established,related accept
        iifname "lan0" accept
        jump miniupnpd
      }
      chain prerouting {
        type nat hook prerouting priority -100;
        jump prerouting_miniupnpd
      }
      chain postrouting {
        type nat hook postrouting priority 100;
        jump postrouting_miniupnpd
        meta nfproto ipv4 oifname "wan0" masquerade
      }
    }
RULES
`;

const HOST_SETUP = `
  ip addr add 192.168.1.2/24 dev lan
  ip addr add 2600:1::2/64 dev lan
  ip route add default via 192.168.1.1
  ip -6 route add default via fe80::1 dev lan
`;

const OUTSIDE_SETUP = `
  ip addr add 44.0.0.9/24 dev wan
  ip addr add 2600:2::9/64 dev wan
  ip -6 route add 2600:1::/64 via 2600:2::7
`;

const CONFIG = [
  "ext_ifname=wan0",
  "listening_ip=lan0",
  "ipv6_listening_ip=::",
  "enable_natpmp=yes",
  "enable_upnp=yes",
  "secure_mode=yes",
  "upnp_table_name=filter",
  "upnp_nat_table_name=filter",
  "upnp_forward_chain=miniupnpd",
  "upnp_nat_chain=prerouting_miniupnpd",
  "upnp_nat_postrouting_chain=postrouting_miniupnpd",
  "allow 1024-65535 192.168.1.0/24 1024-65535",
];
