/**
 * A gateway that speaks UPnP IGD as its specifications say, or does whatever a test has it do; over any network.
 *
 * @module
 */

import { NetworkError } from "../../../lib/base/errors.ts";
import { formatTransportAddress, ipFamily } from "../../../lib/net/address.ts";
import type { Datagram, Network, UdpSocket } from "../../../lib/net/network.ts";
import { type HttpCall, type HttpReply, HttpServer } from "./http_server.ts";
import { IgdTable, type SoapCall } from "./igd_table.ts";
import { descriptionXml, type FakeServiceXml } from "./igd_xml.ts";

/** How it behaves. */
export interface FakeIgdOptions {
  /** Of its HTTP server; 5000 unless given. */
  readonly httpPort?: number;
  /** WANIPConnection:1 unless given. */
  readonly services?: readonly FakeServiceXml[];
  /** The whole description, if not the usual one. */
  readonly description?: string;
  /** What it says where that is, if not the truth. */
  readonly location?: string;
  /** What to do with a call; the usual, if it returns `undefined`. */
  readonly onSoap?: (call: SoapCall, usual: () => HttpReply) => HttpReply | undefined;
  /** What to do with a request that is no call; the usual, if it returns `undefined`. */
  readonly onGet?: (call: HttpCall) => HttpReply | undefined;
  /** What to answer a search; the usual, if it returns `undefined`. */
  readonly onSearch?: (search: FakeSearch) => readonly FakeAnswer[] | undefined;
}

/** A search that arrived. */
export interface FakeSearch {
  readonly target: string;
  readonly text: string;
  readonly from: Datagram["from"];
  readonly atMs: number;
  /** What the gateway answers. */
  readonly usual: string;
}

/** An answer to a search. */
export interface FakeAnswer {
  readonly text: string;
  /** How much later; 0 unless given. */
  readonly delayMs?: number;
  /** From another port of the gateway than 1900. */
  readonly fromElsewhere?: boolean;
}

/** WANIPConnection, in either version. */
export const WAN_IP_1 = {
  serviceType: "urn:schemas-upnp-org:service:WANIPConnection:1",
  controlUrl: "/ctl/IPConn",
};
export const WAN_IP_2 = { ...WAN_IP_1, serviceType: `${WAN_IP_1.serviceType.slice(0, -1)}2` };
export const WAN_PPP_1 = {
  serviceType: "urn:schemas-upnp-org:service:WANPPPConnection:1",
  controlUrl: "/ctl/PPPConn",
};
export const FIREWALL = {
  serviceType: "urn:schemas-upnp-org:service:WANIPv6FirewallControl:1",
  controlUrl: "/ctl/IP6FCtl",
};

/** A gateway that runs until it is disposed. */
export class FakeIgd implements Disposable {
  readonly table = new IgdTable();
  /** All searches so far. */
  readonly searches: FakeSearch[] = [];
  /** All calls so far. */
  readonly soapCalls: SoapCall[] = [];
  readonly #stack = new DisposableStack();
  readonly #options: FakeIgdOptions;
  readonly #ip: string;
  readonly #timers = new Set<ReturnType<typeof setTimeout>>();
  #http: HttpServer | undefined;

  private constructor(ip: string, options: FakeIgdOptions) {
    this.#ip = ip;
    this.#options = options;
  }

  /** Opens it at an address of the network's host. */
  static async start(
    network: Network,
    ip: string,
    options: FakeIgdOptions = {},
  ): Promise<FakeIgd> {
    const igd = new FakeIgd(ip, options);
    const [group, wildcard] = ipFamily(ip) === 4
      ? ["239.255.255.250", "0.0.0.0"]
      : ["ff02::c", "::"];
    const socket = igd.#stack.use(
      await network.bindUdp({ ip: wildcard, port: 1900 }, {
        multicast: { groups: [{ group, interfaceIp: ip }] },
      }),
    );
    const elsewhere = igd.#stack.use(await network.bindUdp({ ip, port: 0 }));
    const httpPort = options.httpPort ?? 5000;
    igd.#http = igd.#stack.use(
      await HttpServer.start(network, { ip, port: httpPort }, (call) => igd.#onHttp(call)),
    );
    igd.#serveSearches(socket, elsewhere);
    return igd;
  }

  /** All HTTP requests so far. */
  get httpCalls(): readonly HttpCall[] {
    return this.#http?.calls ?? [];
  }

  /** The names of the actions that were called, in order. */
  get actions(): string[] {
    return this.soapCalls.map(({ action }) => action);
  }

  /** Ends it. */
  [Symbol.dispose](): void {
    for (const timer of this.#timers) clearTimeout(timer);
    this.#stack.dispose();
  }

  async #serveSearches(socket: UdpSocket, elsewhere: UdpSocket): Promise<void> {
    try {
      while (true) this.#onDatagram(await socket.receive(), { socket, elsewhere });
    } catch (error) {
      if (!(error instanceof NetworkError)) throw error; // it is closed
    }
  }

  #onDatagram(
    { data, from }: Datagram,
    sockets: { socket: UdpSocket; elsewhere: UdpSocket },
  ): void {
    const text = new TextDecoder().decode(data);
    const target = /^ST:\s*(.*?)\r?$/im.exec(text)?.[1] ?? "";
    const search = { target, text, from, atMs: performance.now(), usual: this.#answerTo(target) };
    this.searches.push(search);
    const isKnown = /InternetGatewayDevice:[12]$|^upnp:rootdevice$/.test(target);
    const answers = this.#options.onSearch?.(search) ?? (isKnown ? [{ text: search.usual }] : []);
    for (const { text, delayMs = 0, fromElsewhere } of answers) {
      const socket = fromElsewhere ? sockets.elsewhere : sockets.socket;
      const timer = setTimeout(() => {
        this.#timers.delete(timer);
        socket.send(new TextEncoder().encode(text), from);
      }, delayMs);
      this.#timers.add(timer);
    }
  }

  #answerTo(target: string): string {
    const { httpPort = 5000, location } = this.#options;
    const url = `http://${formatTransportAddress({ ip: this.#ip, port: httpPort })}/rootDesc.xml`;
    return [
      "HTTP/1.1 200 OK",
      "CACHE-CONTROL: max-age=120",
      `ST: ${target}`,
      `USN: uuid:fake::${target}`,
      "EXT:",
      "SERVER: Fake/1.0 UPnP/1.1 Fake/1.0",
      `LOCATION: ${location ?? url}`,
      "",
      "",
    ].join("\r\n");
  }

  #onHttp(call: HttpCall): HttpReply {
    if (call.method === "POST") return this.#onPost(call);
    const { services = [WAN_IP_1], description = descriptionXml(services), onGet } = this.#options;
    const usual: HttpReply = call.target === "/rootDesc.xml"
      ? { kind: "response", status: 200, body: description }
      : { kind: "response", status: 404, body: "no such page" };
    return onGet?.(call) ?? usual;
  }

  #onPost({ fields, body, from, target }: HttpCall): HttpReply {
    const { services = [WAN_IP_1], onSoap } = this.#options;
    const [, serviceType = "", action = ""] =
      /^"(.*)#(.*)"$/.exec(fields.get("soapaction") ?? "") ??
        [];
    const known = services.some((service) =>
      service.serviceType === serviceType && target.endsWith(service.controlUrl)
    );
    if (!known) return { kind: "response", status: 404, body: "no such service" };
    const inner = new RegExp(`<u:${action}[^>]*>([^]*)</u:${action}>`).exec(body)?.[1] ?? "";
    const values = Object.fromEntries(
      Array.from(
        inner.matchAll(/<(\w+)>([^<]*)<\/\1>/g),
        ([, name, text]) => [name!, plain(text!)],
      ),
    );
    const index = this.actions.filter((name) => name === action).length;
    const call: SoapCall = { serviceType, action, values, from: from.ip, index };
    this.soapCalls.push(call);
    return onSoap?.(call, () => this.table.answer(call)) ?? this.table.answer(call);
  }
}

function plain(text: string): string {
  return text.replaceAll("&lt;", "<").replaceAll("&gt;", ">").replaceAll("&amp;", "&");
}
