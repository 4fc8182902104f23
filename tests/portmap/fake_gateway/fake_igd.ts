/**
 * A gateway on any network that speaks UPnP IGD by the specifications, or misbehaves as a test demands.
 *
 * @module
 */

import { NetworkError } from "../../../lib/base/errors.ts";
import { formatTransportAddress, ipFamily } from "../../../lib/net/address.ts";
import type { Datagram, Network, UdpSocket } from "../../../lib/net/network.ts";
import {
  type HttpCall,
  type HttpReply,
  HttpServer,
  type HttpServerOptions,
} from "./http_server.ts";
import { IgdTable, type SoapCall } from "./igd_table.ts";
import { descriptionXml, type FakeServiceXml } from "./igd_xml.ts";

/** How the gateway behaves. */
export interface FakeIgdOptions {
  /** The port of its HTTP server; 5000 by default. */
  readonly httpPort?: number;
  /** Its services; WANIPConnection:1 by default. */
  readonly services?: readonly FakeServiceXml[];
  /** Its whole description, in place of the usual one. */
  readonly description?: string;
  /** The LOCATION that it announces, in place of the true one. */
  readonly location?: string;
  /** What to answer to a call; `undefined` stands for the usual answer. */
  readonly onSoap?: (call: SoapCall, usual: () => HttpReply) => HttpReply | undefined;
  /** What to answer to a GET; `undefined` stands for the usual answer. */
  readonly onGet?: (call: HttpCall) => HttpReply | undefined;
  /** How to send what would be answered to any request. */
  readonly frame?: (reply: HttpReply, call: HttpCall) => HttpReply;
  /** Whether to reset a connection as soon as it is there. */
  readonly refuses?: HttpServerOptions["refuses"];
  /** What to answer to a search; `undefined` stands for the usual answer. */
  readonly onSearch?: (search: FakeSearch) => readonly FakeAnswer[] | undefined;
}

/** A search that arrived. */
export interface FakeSearch {
  readonly target: string;
  readonly text: string;
  readonly from: Datagram["from"];
  readonly atMs: number;
  /** The usual answer. */
  readonly usual: string;
}

/** An answer to a search. */
export interface FakeAnswer {
  readonly text: string;
  /** How much later to send it; 0 by default. */
  readonly delayMs?: number;
  /** Whether to send it from another port than 1900. */
  readonly fromElsewhere?: boolean;
}

/** The services that a gateway may have. */
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

  /** Starts a gateway at an address of the network's host. */
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
      await HttpServer.start(network, { ip, port: httpPort }, (call) => {
        const reply = igd.#onHttp(call);
        return options.frame?.(reply, call) ?? reply;
      }, options),
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

  /** Stops. */
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
    const call: SoapCall = { serviceType, action, target, values, from: from.ip, index };
    this.soapCalls.push(call);
    return onSoap?.(call, () => this.table.answer(call)) ?? this.table.answer(call);
  }
}

function plain(text: string): string {
  return text.replaceAll("&lt;", "<").replaceAll("&gt;", ">").replaceAll("&amp;", "&");
}
